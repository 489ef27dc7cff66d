"""Settings: the only place that reads the environment.

Every variable is a field of `Settings`, its name in capitals. Units are part of the
names: `_S` seconds, `_ROWS` rows, `_TOKENS` estimated tokens. All of them are checked
together, so that one message lists every fault.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from embed_star.coordination import redis_url
from embed_star.errors import ConfigError
from embed_star.providers.context_lengths import text_tokens

ProviderName = Literal["ollama", "openai", "together", "local"]

DEFAULT_MODELS: dict[str, tuple[str, int]] = {
    "ollama": ("nomic-embed-text", 768),
    "openai": ("text-embedding-3-small", 1536),
    "local": ("wordllama-l2-supercat", 256),
}
"""The model and dimensions of each provider when the settings name none.

None for Together AI: it serves embedding models on dedicated endpoints only.
"""

LOCAL_ENV_FILE = ".embed-star/local.env"
"""Written by `embed-star up`: where its servers listen. `.env` and the environment win."""

SECRETS_DIR = "/run/secrets"
"""Where Compose puts secrets, and where the manifests for Kubernetes mount them."""

REQUESTS_PER_MINUTE = {"openai": 3000, "together": 1000}
"""Of each provider when the settings say nothing; the others have no limit."""

DOLLARS_PER_MILLION_TOKENS = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
"""OpenAI's list prices of its models, for estimates: PROVIDER_PRICE_PER_MILLION_TOKENS wins."""

BUDGET_WAIT_MAX_S = 10.0
"""Longest that a call waits for its slot in the provider's rate limit."""

LOCK_MARGIN_S = 10.0
"""What a lock must outlast a provider call by: loading, validating, one bulk write."""

SHUTDOWN_MARGIN_S = 2.0
"""What a process may take beyond its grace until it has ended."""

_FIELD_PATH = re.compile(r"[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62}){0,3}")
_NAME_CHARACTERS = 255
_INSTALLATION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RATE = re.compile(r"\d+(/[smh])?")

_PORTS = {"http": 80, "https": 443}

Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600)]
Rows = Annotated[int, Field(ge=1, le=1_000_000)]


def _check_url(value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # its words repeat the URL, password included
        good = False
    if not good:
        raise ValueError(
            f"must be a URL that begins with {' or '.join(s + '://' for s in schemes)}"
        )
    return value.rstrip("/")


_SECRETS_DIR_MEANING = "directory of files that hold a setting each, by its name"


class _SecretFiles(SecretsSettingsSource):
    """Files of SECRETS_DIR, each named as its setting; what comes before decides which directory.

    An empty file counts as not there, as an empty variable does. Raises ConfigError when a
    directory that was asked for is none, or a file cannot be read.
    """

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("secrets_dir")
        self.secrets_dir = Path(named or SECRETS_DIR)
        if not self.secrets_dir.is_dir():
            if self.secrets_dir != Path(SECRETS_DIR):
                raise ConfigError("settings: SECRETS_DIR names no directory")
            return {}
        try:
            found = super().__call__()
        except SettingsError:
            raise ConfigError(
                f"settings: the file of {self._reading.upper()} in SECRETS_DIR cannot be read: it "
                "must be text that the user of this process may read"
            ) from None
        return {name: value for name, value in found.items() if value}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        self._reading = field_name  # for the error; the one that arrives does not name it
        return super().get_field_value(field, field_name)


class _FromEnvironment(BaseSettings):
    """Settings read from arguments, the environment, env files and secret files, in this order."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del file_secret_settings
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls)


class Settings(_FromEnvironment):
    """All settings, validated. Use `load_settings`, which words the faults for people."""

    model_config = SettingsConfigDict(
        env_file=(LOCAL_ENV_FILE, ".env"), extra="ignore", frozen=True, env_ignore_empty=True
    )

    # SurrealDB
    db_url: str = Field("ws://127.0.0.1:8000", description="SurrealDB's WebSocket address")
    db_user: str = Field("embed_star", description="database-level user of the workload")
    db_pass: SecretStr = Field(description="password of DB_USER")
    db_namespace: str = Field("gitstars", description="SurrealDB namespace")
    db_database: str = Field("stars", description="SurrealDB database")
    db_pool_size: int = Field(8, ge=1, le=256, description="connections a process may open")
    db_pool_wait_s: Seconds = Field(10.0, description="longest wait for a free connection")
    db_connect_timeout_s: Seconds = Field(5.0, description="deadline for connecting and signing in")
    db_timeout_s: Seconds = Field(30.0, description="deadline for one query")
    db_connection_max_age_s: Seconds = Field(
        1800.0, description="a connection is replaced after this"
    )
    db_conflict_retries: int = Field(8, ge=0, le=50, description="retries of a conflicting write")

    # Redis
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis of queues and locks")
    cache_url: str = Field("", description="Redis of the vector cache; empty: REDIS_URL")
    redis_timeout_s: Seconds = Field(5.0, description="deadline for one Redis command; tried twice")

    installation_id: str = Field(
        "", description="part of every name in Redis; empty: the random one that migrate made"
    )

    # Provider
    embedding_provider: ProviderName = Field("local", description="who computes the vectors")
    embedding_model: str = Field("", description="model; empty: the provider's default")
    embedding_dimensions: int = Field(
        0, ge=0, le=65_535, description="length of a vector; 0: the default model's"
    )
    ollama_url: str = Field("http://127.0.0.1:11434", description="Ollama's address")
    openai_base_url: str = Field(
        "https://api.openai.com/v1", description="any OpenAI-compatible API"
    )
    openai_api_key: SecretStr = Field(
        SecretStr(""), description="key; may be empty for other hosts"
    )
    openai_encoding_format: Literal["auto", "base64", "float"] = Field(
        "auto", description="how vectors travel; auto: base64 where the server understands it"
    )
    together_base_url: str = Field(
        "https://api.together.xyz/v1", description="Together AI's address"
    )
    together_api_key: SecretStr = Field(SecretStr(""), description="key for Together AI")
    provider_connect_timeout_s: Seconds = Field(5.0, description="deadline for connecting")
    provider_read_timeout_s: Seconds = Field(20.0, description="longest silence within an answer")
    provider_total_timeout_s: Seconds = Field(30.0, description="deadline for a whole call")
    provider_max_response_mb: int = Field(64, ge=1, le=1024, description="largest answer")

    provider_requests_per_minute: int = Field(
        -1, ge=-1, le=10_000_000, description="rate limit of the fleet; 0: none; -1: the usual"
    )
    provider_tokens_per_minute: int = Field(
        0, ge=0, le=10_000_000_000, description="estimated tokens the fleet may send; 0: any number"
    )
    provider_search_share: float = Field(
        0.05, ge=0, le=0.2, description="share of the limits at which searches need not queue"
    )
    provider_throttled_pause_s: Seconds = Field(
        5.0, description="the fleet's pause after a 429 that names none"
    )
    provider_price_per_million_tokens: float = Field(
        -1.0, ge=-1, le=1_000_000, description="what tokens cost; -1: the usual"
    )

    # Text
    text_fields: Annotated[tuple[str, ...], NoDecode] = Field(
        ("full_name", "description", "language", "topics"),
        description="fields of repo that make the text, in order, with commas between",
    )
    text_max_tokens: int = Field(8000, ge=16, le=1_000_000, description="a longer text is cut")

    # Batches and the work under way
    batch_size: int = Field(10, ge=1, le=2048, description="rows a provider call, at most")
    batch_max_tokens: int = Field(
        100_000, ge=16, le=300_000, description="estimated tokens a provider call, at most"
    )
    chord_batches: int = Field(10, ge=1, le=100, description="batches one bulk write gathers")
    parallel_workers: int = Field(
        3, ge=1, le=256, description="provider calls in flight, a worker process"
    )
    embed_rate_limit: str = Field(
        "", description="embed tasks one worker may start, such as 10/s or 600/m; empty: no limit"
    )
    max_in_flight_rows: Rows = Field(5000, description="rows claimed and not finished, at most")
    in_flight_window_s: Seconds = Field(
        10.0, description="rows are claimed for this much work ahead, at the measured pace"
    )

    # Retries and locks
    retry_max: int = Field(3, ge=0, le=20, description="retries of a task on a transient error")
    retry_backoff_s: int = Field(1, ge=1, le=60, description="first back-off; doubles, with jitter")
    retry_backoff_max_s: int = Field(8, ge=1, le=600, description="longest back-off")
    lock_ttl_s: Seconds = Field(45.0, description="a lock nobody extends is free after this")
    leader_lease_s: Seconds = Field(10.0, description="a dead producer is replaced after this")
    visibility_timeout_s: Seconds = Field(300.0, description="Redis redelivers a task after this")
    shutdown_grace_s: float = Field(
        -1.0,
        ge=-1,
        le=24 * 3600,
        description="what runs may finish for this long after SIGTERM; -1: a call's longest",
    )

    # Circuit breaker
    breaker_failures: int = Field(
        0, ge=0, le=10_000, description="failures in a row that pause it; 0: the provider's default"
    )
    breaker_open_s: float = Field(
        0.0, ge=0, le=24 * 3600, description="pause until a probe; 0: the provider's default"
    )
    breaker_successes: int = Field(
        0, ge=0, le=100, description="probes in a row that end it; 0: the provider's default"
    )
    breaker_failure_rate: float = Field(
        0.5, gt=0, le=1, description="share of failed calls that pauses it, too"
    )
    breaker_min_requests: int = Field(
        20, ge=1, le=1_000_000, description="calls from which on the share counts"
    )
    breaker_window_s: Seconds = Field(60.0, description="what the share looks back on")

    # Watching and sweeping
    live_queries: bool = Field(True, description="LIVE SELECT as a doorbell, where the server can")
    poll_interval_s: Seconds = Field(1.0, description="the outbox is read at least this often")
    sweep_interval_s: Seconds = Field(30.0, description="beat's backlog sweep")
    reconcile_interval_s: Seconds = Field(
        3600.0, description="pause between whole-table reconciles"
    )
    reconcile_page_rows: Rows = Field(500, description="rows one reconcile query reads")

    # Cache and validation
    cache_ttl_s: Seconds = Field(7 * 24 * 3600.0, description="life of a vector in Redis")
    cache_local_entries: int = Field(
        4096, ge=0, le=10_000_000, description="vectors a process keeps"
    )
    cache_local_ttl_s: Seconds = Field(3600.0, description="life of a vector in a process")
    validate_magnitude_min: float = Field(0.1, ge=0, description="shortest vector accepted")
    validate_magnitude_max: float = Field(10.0, gt=0, description="longest vector accepted")
    validate_zero_ratio_max: float = Field(
        0.5, ge=0, le=1, description="zeros accepted in a vector"
    )

    # Search
    hnsw_min_rows: int = Field(
        10_000, ge=0, description="vectors from which an HNSW index is built; 0: never"
    )

    # Import
    github_api_url: str = Field("https://api.github.com", description="for import --starred")
    github_token: SecretStr = Field(SecretStr(""), description="raises GitHub's rate limit")

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least level"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere"
    )

    # Secrets
    secrets_dir: str = Field(SECRETS_DIR, description=_SECRETS_DIR_MEANING)

    # Monitoring
    monitoring_port: int = Field(
        9090, ge=0, le=65_535, description="port of /metrics, /livez and /readyz; 0: none"
    )
    monitoring_host: str = Field("0.0.0.0", description="address that it listens on")  # noqa: S104 - exporters are read from elsewhere
    liveness_timeout_s: Seconds = Field(
        30.0, description="a loop that has not moved for so long is stuck"
    )
    tracing_endpoint: str = Field("", description="OTLP/HTTP address for traces; empty: none")
    tracing_sample_ratio: float = Field(1.0, ge=0, le=1, description="share of runs traced")

    @field_validator("db_url")
    @classmethod
    def _db_url(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("must hold no user and password: DB_USER and DB_PASS are for that")
        return _check_url(value, ("ws", "wss"))

    @field_validator("redis_url", "cache_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        return redis_url.normalised(value) if value else value

    @field_validator("tracing_endpoint")
    @classmethod
    def _tracing_url(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("must hold no user and password")
        return _check_url(value, ("http", "https")) if value else value

    @field_validator("monitoring_host")
    @classmethod
    def _host(cls, value: str) -> str:
        try:
            ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address, such as 127.0.0.1, 0.0.0.0 or ::") from None
        return value

    @field_validator("ollama_url", "openai_base_url", "together_base_url", "github_api_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        return _check_url(value, ("http", "https"))

    @field_validator("db_pass")
    @classmethod
    def _db_pass(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("must not be empty")
        return value

    @field_validator("db_namespace", "db_database", "db_user")
    @classmethod
    def _name(cls, value: str) -> str:
        odd = value != value.strip() or not value.isprintable()
        if odd or not 1 <= len(value) <= _NAME_CHARACTERS:
            raise ValueError(
                f"must be 1 to {_NAME_CHARACTERS} printable characters, with no space at its ends"
            )
        return value

    @field_validator("installation_id")
    @classmethod
    def _installation(cls, value: str) -> str:
        if value and not _INSTALLATION.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dashes and underscores")
        return value

    @field_validator("text_fields", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(p.strip() for p in value.split(",")) if isinstance(value, str) else value

    @field_validator("text_fields")
    @classmethod
    def _fields(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(map(_FIELD_PATH.fullmatch, value)):
            raise ValueError("must be field names such as description,owner.login")
        return value

    @field_validator("embed_rate_limit")
    @classmethod
    def _rate(cls, value: str) -> str:
        if value and not _RATE.fullmatch(value):
            raise ValueError("must be a number of tasks a second, minute or hour, such as 10/s")
        return value

    @field_validator("together_api_key", "openai_api_key")
    @classmethod
    def _key(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if not key.isascii() or any(character.isspace() for character in key):
            raise ValueError("holds a space or a character that no key has; paste it again")
        return value

    @field_validator("embedding_dimensions")
    @classmethod
    def _dimensions(cls, value: int, info: ValidationInfo) -> int:
        provider, model = info.data.get("embedding_provider"), info.data.get("embedding_model")
        known = DEFAULT_MODELS.get(provider or "", ("", 0))[0]
        if provider and not value and (model or known) != known:
            raise ValueError("is needed with this EMBEDDING_MODEL: the length of its vectors")
        return value

    @field_validator("embedding_model")
    @classmethod
    def _model(cls, value: str, info: ValidationInfo) -> str:
        provider = info.data.get("embedding_provider")
        if provider and provider not in DEFAULT_MODELS and not value:
            raise ValueError(f"is needed with EMBEDDING_PROVIDER={provider}")
        return value

    @field_validator("together_api_key", "openai_api_key", mode="after")
    @classmethod
    def _needed_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        provider = info.data.get("embedding_provider")
        hosted = provider == "together" or (
            provider == "openai" and "api.openai.com" in info.data.get("openai_base_url", "")
        )
        if hosted and info.field_name == f"{provider}_api_key" and not value.get_secret_value():
            raise ValueError(f"is needed with EMBEDDING_PROVIDER={provider}")
        return value

    @field_validator("batch_max_tokens")
    @classmethod
    def _within_rate_limit(cls, value: int, info: ValidationInfo) -> int:
        per_minute = info.data.get("provider_tokens_per_minute", 0)
        if per_minute and value > per_minute:
            raise ValueError(
                f"must be at most PROVIDER_TOKENS_PER_MINUTE = {per_minute}, "
                "or a full batch could never be sent"
            )
        return value

    @field_validator("lock_ttl_s")
    @classmethod
    def _lock_outlives_call(cls, value: float, info: ValidationInfo) -> float:
        call_s = info.data.get("provider_total_timeout_s", 0.0)
        if value < call_s + LOCK_MARGIN_S:
            raise ValueError(
                f"must be at least PROVIDER_TOTAL_TIMEOUT_S + {LOCK_MARGIN_S:g} = "
                f"{call_s + LOCK_MARGIN_S:g}, or a lock could end under a running call"
            )
        return value

    @field_validator("visibility_timeout_s")
    @classmethod
    def _visibility(cls, value: float, info: ValidationInfo) -> float:
        longest = info.data.get("provider_total_timeout_s", 0.0) + info.data.get(
            "retry_backoff_max_s", 0.0
        )
        if value <= 2 * longest:
            raise ValueError(
                "must be more than twice PROVIDER_TOTAL_TIMEOUT_S + RETRY_BACKOFF_MAX_S "
                f"= {2 * longest:g}, or Redis would hand running tasks out again"
            )
        return value

    @field_validator("shutdown_grace_s")
    @classmethod
    def _grace(cls, value: float, info: ValidationInfo) -> float:
        if -1 < value < 0:
            raise ValueError("must be -1, or at least 0")
        visible_s = info.data.get("visibility_timeout_s", math.inf)
        if value >= visible_s:
            raise ValueError(
                f"must be less than VISIBILITY_TIMEOUT_S = {visible_s:g}, or Redis would hand "
                "out again what a stopping worker still does"
            )
        return value

    @field_validator("validate_magnitude_max")
    @classmethod
    def _magnitudes(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("validate_magnitude_min", 0.0):
            raise ValueError("must be more than VALIDATE_MAGNITUDE_MIN")
        return value

    @property
    def model(self) -> str:
        """The model in force: the setting, else the provider's default."""
        return self.embedding_model or DEFAULT_MODELS[self.embedding_provider][0]

    @property
    def dimensions(self) -> int:
        """The length of a vector in force."""
        return self.embedding_dimensions or DEFAULT_MODELS[self.embedding_provider][1]

    @property
    def endpoint(self) -> str:
        """Whom the provider's calls go to: its address without user, password and query."""
        url = {
            "ollama": self.ollama_url,
            "openai": self.openai_base_url,
            "together": self.together_base_url,
        }.get(self.embedding_provider, "")
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        host, path = (parts.hostname or "").rstrip("."), parts.path.rstrip("/")
        return f"{parts.scheme}://{host}:{port}{path}" if url else ""

    @property
    def text_tokens(self) -> int:
        """Estimated tokens at which texts are cut: TEXT_MAX_TOKENS, or what the model reads."""
        return text_tokens(self.model, self.text_max_tokens)

    @property
    def requests_per_minute(self) -> int:
        """The rate limit in force, 0 for none: the setting, else the provider's usual one."""
        if self.provider_requests_per_minute >= 0:
            return self.provider_requests_per_minute
        if self.embedding_provider == "openai" and not self._is_openai_itself:
            return 0  # vLLM and the like have none
        return REQUESTS_PER_MINUTE.get(self.embedding_provider, 0)

    @property
    def dollars_per_million_tokens(self) -> float:
        """The price in force, 0 for none: the setting, else OpenAI's for its own models."""
        if self.provider_price_per_million_tokens >= 0:
            return self.provider_price_per_million_tokens
        if self.embedding_provider != "openai" or not self._is_openai_itself:
            return 0.0
        return DOLLARS_PER_MILLION_TOKENS.get(self.model, 0.0)

    @property
    def _is_openai_itself(self) -> bool:
        return urlsplit(self.openai_base_url).hostname == "api.openai.com"

    @property
    def budget_wait_s(self) -> float:
        """Longest that a call may wait for its slot, so that its rows' locks outlast both."""
        spare_s = self.lock_ttl_s - self.provider_total_timeout_s - LOCK_MARGIN_S
        return min(max(spare_s, 1.0), BUDGET_WAIT_MAX_S)

    @property
    def defer_max_s(self) -> float:
        """Longest that a throttled batch is kept: its rows' locks and its message outlast it."""
        call_s = self.provider_total_timeout_s + self.budget_wait_s
        return max(
            1.0, min(self.lock_ttl_s - LOCK_MARGIN_S, self.visibility_timeout_s / 2 - call_s)
        )

    @property
    def batch_max_s(self) -> float:
        """Longest that one task goes on calling: it ends before its message is handed out again."""
        call_s = self.provider_total_timeout_s + self.budget_wait_s
        return max(1.0, self.visibility_timeout_s - call_s - 1.0)

    @property
    def grace_s(self) -> float:
        """The grace in force: the setting, else what a call to the provider takes at most."""
        if self.shutdown_grace_s >= 0:
            return self.shutdown_grace_s
        return min(self.provider_total_timeout_s + LOCK_MARGIN_S, self.visibility_timeout_s)

    @property
    def cache_redis_url(self) -> str:
        """Where vectors are cached: CACHE_URL, else REDIS_URL."""
        return self.cache_url or self.redis_url

    @classmethod
    def _instance(cls, **values: Any) -> Self:
        return cls(**values)


class RootSettings(_FromEnvironment):
    """SurrealDB's root user; read by `embed-star migrate --bootstrap` and nothing else."""

    model_config = SettingsConfigDict(
        env_file=(".env",), extra="ignore", frozen=True, env_ignore_empty=True
    )

    root_db_user: str = Field("root", description="root user, for migrate --bootstrap only")
    root_db_pass: SecretStr = Field(SecretStr(""), description="password of ROOT_DB_USER")
    secrets_dir: str = Field(SECRETS_DIR, description=_SECRETS_DIR_MEANING)


def load_root_settings() -> RootSettings:
    """Read the root user. Raises ConfigError when the password is not set."""
    root = RootSettings()  # type: ignore[call-arg]  # the environment gives them
    if not root.root_db_pass.get_secret_value():
        raise ConfigError("settings: ROOT_DB_PASS is not set, and --bootstrap needs it")
    return root


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; `overrides` win over the environment.

    Raises ConfigError with every fault in one message. Values are not repeated in it:
    one of them may be a secret in the wrong variable.
    """
    try:
        return Settings._instance(**overrides)
    except ValidationError as error:
        faults = [_fault(dict(one)) for one in error.errors(include_url=False, include_input=False)]
        raise ConfigError("settings: " + "; ".join(faults)) from None


def misspelt() -> dict[str, str]:
    """Names in `.env` that are no setting and nearly one → that setting.

    Others may be anybody's: Compose reads the same file.
    """
    known = [name.upper() for name in (*Settings.model_fields, *RootSettings.model_fields)]
    given = map(str.upper, DotEnvSettingsSource(Settings, env_file=".env").env_vars)
    return {
        name: near[0]
        for name in given
        if name not in known and (near := get_close_matches(name, known, 1, 0.85))
    }


def _fault(error: dict[str, Any]) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "settings"
    if error["type"] == "missing":
        return (
            f"{name} is not set ({Settings.model_fields[name.lower()].description}): put it into "
            "the environment, a .env file here or a file in SECRETS_DIR, or run this where "
            "`embed-star up` is running"
        )
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} {text[0].lower()}{text[1:]}"
