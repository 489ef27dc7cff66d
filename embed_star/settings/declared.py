"""The settings: every field is an environment variable, its name in capitals.

Units are part of the names: `_S` seconds, `_ROWS` rows, `_TOKENS` estimated tokens. All other
numbers are constants of the modules that use them, or follow from the settings (`Timings`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from embed_star import timings
from embed_star.providers import catalogue
from embed_star.settings.fields import (
    AutoInt,
    FieldNames,
    HttpUrl,
    InstallationId,
    IPAddress,
    Key,
    Name,
    Password,
    ProviderName,
    RedisUrl,
    Rows,
    Seconds,
    TracingUrl,
    WebSocketUrl,
    setting,
)
from embed_star.settings.sources import ENV_FILE, LOCAL_ENV_FILE, SECRETS_DIR, FromEnvironment

SECRETS_DIR_MEANING = "directory of files that hold a setting each, by its name"


def _usual(fact: str) -> str:
    """A breaker's default of each provider, in words."""
    shown = {
        name: getattr(facts.breaker, fact)
        for name, facts in catalogue.PROVIDERS.items()
        if facts.breaker
    }
    return ", ".join(f"{name} {value:g}" for name, value in shown.items())


def _auto(fact: str) -> str:
    """What `auto` is with each provider, in words."""
    shown = {name: getattr(facts, fact) for name, facts in catalogue.PROVIDERS.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value)


class Declared(FromEnvironment):
    """The settings, each with its type, default and meaning."""

    model_config = SettingsConfigDict(
        env_file=(LOCAL_ENV_FILE, ENV_FILE), extra="ignore", frozen=True, env_ignore_empty=True
    )

    db_url: WebSocketUrl = setting(
        "ws://127.0.0.1:8000", "SurrealDB's WebSocket address", "ws:// or wss://"
    )
    db_user: Name = setting("embed_star", "database-level user of the workload", "name")
    db_pass: Password = setting(..., "password of DB_USER", "text")
    db_namespace: Name = setting("gitstars", "SurrealDB namespace", "name")
    db_database: Name = setting("stars", "SurrealDB database", "name")
    db_pool_size: int = setting(8, "connections a process may open", "connections", ge=1, le=256)
    db_timeout_s: Seconds = setting(30.0, "deadline for one query", "seconds")

    redis_url: RedisUrl = setting(
        "redis://127.0.0.1:6379/0", "Redis of queues and locks", "redis:// or rediss://"
    )
    cache_url: RedisUrl = setting(
        "",
        "Redis of the vector cache; empty: REDIS_URL",
        "redis:// or rediss://",
        "it may evict keys, and the Redis of the queues must not",
    )
    redis_timeout_s: Seconds = setting(
        5.0, "deadline for one Redis command; tried twice", "seconds"
    )
    installation_id: InstallationId = setting(
        "",
        "part of every name in Redis; empty: the random one that migrate made",
        "letters, digits, - and _",
        "docs/security.md says when to set it",
    )

    embedding_provider: ProviderName = setting(
        "local", "who computes the vectors", " or ".join(catalogue.PROVIDERS)
    )
    embedding_model: str = setting(
        "",
        "model; empty: the provider's default",
        "name",
        "Together AI has none, so there it is needed",
    )
    embedding_dimensions: int = setting(
        0,
        "length of a vector; 0: the model's",
        "numbers",
        "a model that is not in the table of models needs it",
        ge=0,
        le=65_535,
    )
    ollama_url: HttpUrl = setting(
        catalogue.PROVIDERS["ollama"].address, "Ollama's address", "http:// or https://"
    )
    openai_base_url: HttpUrl = setting(
        catalogue.PROVIDERS["openai"].address,
        "any OpenAI-compatible API",
        "http:// or https://",
        "vLLM, TEI, LiteLLM, LM Studio, …",
    )
    openai_api_key: Key = setting(SecretStr(""), "key; may be empty for other hosts", "text")
    openai_encoding_format: Literal["auto", "base64", "float"] = setting(
        "auto",
        "how vectors travel; auto: base64 where the server understands it",
        "auto, base64 or float",
    )
    together_api_key: Key = setting(SecretStr(""), "key for Together AI", "text")
    provider_total_timeout_s: Seconds = setting(30.0, "deadline for a whole call", "seconds")
    provider_requests_per_minute: int = setting(
        -1,
        "rate limit of the fleet; 0: none; -1: the usual",
        "requests a minute",
        ", ".join(
            f"{facts.requests_per_minute} for {name}"
            for name, facts in catalogue.PROVIDERS.items()
            if facts.requests_per_minute
        )
        + " at its own address, else none",
        ge=-1,
        le=10_000_000,
    )
    provider_tokens_per_minute: int = setting(
        0,
        "estimated tokens the fleet may send; 0: any number",
        "tokens a minute",
        ge=0,
        le=10_000_000_000,
    )
    provider_price_per_million_tokens: float = setting(
        -1.0,
        "what tokens cost; -1: the usual",
        "US dollars",
        "the list prices of known models, else 0",
        ge=-1,
        le=1_000_000,
    )

    text_fields: FieldNames = setting(
        ("full_name", "description", "language", "topics"),
        "fields of repo that make the text, in order, with commas between",
        "names",
        "dots reach inside: owner.login",
    )
    text_max_tokens: int = setting(
        8000,
        "a longer text is cut",
        "estimated tokens",
        "earlier, if the model is known to read less; its vector is marked cut",
        ge=16,
        le=1_000_000,
    )

    batch_size: AutoInt = setting(
        None,
        "rows a provider call, at most",
        "rows, or auto",
        f"auto: {_auto('batch_rows')}",
        ge=1,
        le=2048,
    )
    batch_max_tokens: int = setting(
        100_000,
        "estimated tokens a provider call, at most",
        "estimated tokens",
        ge=16,
        le=300_000,
    )
    chord_batches: int = setting(10, "batches one bulk write gathers", "batches", ge=1, le=100)
    parallel_workers: AutoInt = setting(
        None,
        "provider calls in flight, a worker process",
        "calls, or auto",
        f"auto: {_auto('calls')}, else 1 to {catalogue.MOST_CALLS}, as many as go well",
        ge=1,
        le=256,
    )
    max_in_flight_rows: Rows = setting(5000, "rows claimed and not finished, at most", "rows")

    retry_max: int = setting(3, "retries of a task on a transient error", "retries", ge=0, le=20)
    lock_ttl_s: Seconds = setting(45.0, "a lock nobody extends is free after this", "seconds")
    leader_lease_s: Seconds = setting(10.0, "a dead producer is replaced after this", "seconds")
    visibility_timeout_s: Seconds = setting(300.0, "Redis redelivers a task after this", "seconds")
    shutdown_grace_s: float = setting(
        -1.0,
        "running work may go on for this long after SIGTERM; -1: a call's longest",
        "seconds",
        f"PROVIDER_TOTAL_TIMEOUT_S + {timings.LOCK_MARGIN_S:g}",
        ge=-1,
        le=24 * 3600,
    )

    breaker_failures: int = setting(
        0,
        "failures in a row that pause it; 0: the provider's default",
        "failures",
        _usual("failures"),
        ge=0,
        le=10_000,
    )
    breaker_open_s: float = setting(
        0.0,
        "pause until a probe; 0: the provider's default",
        "seconds",
        _usual("open_s"),
        ge=0,
        le=24 * 3600,
    )

    sweep_interval_s: Seconds = setting(30.0, "beat's backlog sweep", "seconds")
    reconcile_interval_s: Seconds = setting(
        3600.0, "pause between whole-table reconciles", "seconds"
    )

    cache_ttl_s: Seconds = setting(7 * 24 * 3600.0, "life of a vector in Redis", "seconds")

    github_token: SecretStr = setting(SecretStr(""), "raises GitHub's rate limit", "text")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "INFO", "lowest level that is logged", "DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "auto: console on a terminal, JSON elsewhere", "auto, json or console"
    )

    secrets_dir: str = setting(SECRETS_DIR, SECRETS_DIR_MEANING, "path")

    monitoring_port: int = setting(
        9090,
        "port of /metrics, /livez and /readyz; 0: none",
        "port",
        "processes on one machine need one each",
        ge=0,
        le=65_535,
    )
    monitoring_host: IPAddress = setting(
        "0.0.0.0",  # noqa: S104 - exporters are read from elsewhere
        "address that it listens on",
        "IP address",
    )
    tracing_endpoint: TracingUrl = setting(
        "",
        "OTLP/HTTP address for traces; empty: none",
        "http:// or https://",
        "needs the extra tracing",
    )
    tracing_sample_ratio: float = setting(1.0, "share of runs traced", "share, 0 to 1", ge=0, le=1)
