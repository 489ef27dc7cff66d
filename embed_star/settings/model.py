"""All settings together: the rules between them, and the values that follow from them."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationInfo, field_validator

from embed_star import timings
from embed_star.providers import catalogue
from embed_star.providers.catalogue import ProviderFacts
from embed_star.settings.declared import Declared
from embed_star.timings import Timings

_PORTS = {"http": 80, "https": 443}

_TIMES = {
    "provider_total_timeout_s": "call_s",
    "lock_ttl_s": "lock_ttl_s",
    "visibility_timeout_s": "visibility_timeout_s",
    "shutdown_grace_s": "shutdown_grace_s",
    "leader_lease_s": "leader_lease_s",
    "db_timeout_s": "db_timeout_s",
    "cache_ttl_s": "cache_ttl_s",
}
"""Setting → field of `Timings`."""


KEYS = tuple(name for name in Declared.model_fields if name.endswith("_api_key"))
"""The settings that are keys, each named for its provider."""


class Settings(Declared):
    """All settings, validated. Use `load_settings`, which words the faults for people."""

    @field_validator("embedding_dimensions")
    @classmethod
    def _dimensions(cls, value: int, info: ValidationInfo) -> int:
        provider, model = info.data.get("embedding_provider"), info.data.get("embedding_model")
        known = {"", *catalogue.PROVIDERS[provider].models} if provider else {""}
        if provider and not value and model not in known:
            raise ValueError("is needed with this EMBEDDING_MODEL: the length of its vectors")
        return value

    @field_validator("embedding_model")
    @classmethod
    def _model(cls, value: str, info: ValidationInfo) -> str:
        provider = info.data.get("embedding_provider")
        if provider and not value and not catalogue.PROVIDERS[provider].default_model:
            raise ValueError(f"is needed with EMBEDDING_PROVIDER={provider}")
        return value

    @field_validator(*KEYS)
    @classmethod
    def _needed_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        provider = info.data.get("embedding_provider")
        # Other servers of OpenAI's protocol may need none.
        elsewhere = "api.openai.com" not in info.data.get("openai_base_url", "")
        optional = provider == "openai" and elsewhere
        asked = info.field_name == f"{provider}_api_key" and not optional
        if asked and not value.get_secret_value():
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

    @field_validator("lock_ttl_s", "visibility_timeout_s", "shutdown_grace_s")
    @classmethod
    def _timing(cls, value: float, info: ValidationInfo) -> float:
        name = info.field_name or ""
        if name == "shutdown_grace_s" and -1 < value < 0:
            raise ValueError("must be -1, or at least 0")
        # What is faulty itself is not among the data, and no second remark is made of it.
        known: dict[str, Any] = {
            field: info.data[one] for one, field in _TIMES.items() if one in info.data
        }
        for rule in timings.RULES:
            applies = rule.field == name and rule.needs <= known.keys()
            if applies and (fault := rule.fault(Timings(**{**known, name: value}))):
                raise ValueError(fault)
        return value

    @property
    def facts(self) -> ProviderFacts:
        """The facts about the provider, from the catalogue."""
        return catalogue.PROVIDERS[self.embedding_provider]

    @property
    def model(self) -> str:
        """The model: the setting, else the provider's default."""
        return self.embedding_model or self.facts.default_model

    @property
    def dimensions(self) -> int:
        """The length of a vector: the setting, else that of the model, which the provider has."""
        known = self.facts.models.get(self.model)
        return self.embedding_dimensions or (known.dimensions if known else 0)

    @property
    def endpoint(self) -> str:
        """The address that calls go to, without user, password and query."""
        url = {"ollama": self.ollama_url, "openai": self.openai_base_url}.get(
            self.embedding_provider, self.facts.address
        )
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        host, path = (parts.hostname or "").rstrip("."), parts.path.rstrip("/")
        return f"{parts.scheme}://{host}:{port}{path}" if url else ""

    @property
    def text_tokens(self) -> int:
        """Estimated tokens at which texts are cut: TEXT_MAX_TOKENS, or what the model reads."""
        return catalogue.text_tokens(self.model, self.text_max_tokens)

    @property
    def batch_rows(self) -> int:
        """Most rows of a provider call: BATCH_SIZE, or what suits the provider."""
        return self.batch_size or self.facts.batch_rows

    @property
    def first_calls(self) -> int:
        """Provider calls at once of a process that starts."""
        return self.parallel_workers or self.facts.calls or catalogue.FIRST_CALLS

    @property
    def most_calls(self) -> int:
        """To how many calls their number may adapt; `first_calls` if it is fixed."""
        return self.parallel_workers or self.facts.calls or catalogue.MOST_CALLS

    @property
    def requests_per_minute(self) -> int:
        """The rate limit, 0 for none: the setting, else the provider's usual one."""
        if self.provider_requests_per_minute >= 0:
            return self.provider_requests_per_minute
        if self.embedding_provider == "openai" and not self._is_openai_itself:
            return 0  # vLLM and the like have none
        return self.facts.requests_per_minute

    @property
    def dollars_per_million_tokens(self) -> float:
        """The price, 0 for none: the setting, else the list price of the provider's own models."""
        if self.provider_price_per_million_tokens >= 0:
            return self.provider_price_per_million_tokens
        if self.embedding_provider == "openai" and not self._is_openai_itself:
            return 0.0
        model = self.facts.models.get(self.model)
        return model.dollars_per_million_tokens if model else 0.0

    @property
    def _is_openai_itself(self) -> bool:
        itself = urlsplit(catalogue.PROVIDERS["openai"].address).hostname
        return urlsplit(self.openai_base_url).hostname == itself

    @property
    def timings(self) -> Timings:
        """The times of these settings, and those that follow from them."""
        times = {field: getattr(self, name) for name, field in _TIMES.items()}
        limited = bool(self.requests_per_minute or self.provider_tokens_per_minute)
        return Timings(**times, is_limited=limited)

    @property
    def cache_redis_url(self) -> str:
        """Where vectors are cached: CACHE_URL, else REDIS_URL."""
        return self.cache_url or self.redis_url

    @classmethod
    def read(cls, **values: Any) -> Self:
        """From all sources; `values` win. Raises ValidationError."""
        return cls(**values)
