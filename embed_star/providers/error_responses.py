"""Error responses of providers: from HTTP status and body to our error tree.

The body only helps to tell kinds of refusals apart. It is never repeated, since it may hold
the text of a row or a part of the key. As it may echo a row's text, prose counts only at the
beginning of a message, and a code only as a whole: a repository whose description says
"invalid API key" must not stop the fleet. Only words about a text's length count anywhere in
it: see `http.length_errors`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pydantic import SecretStr

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputTooLong,
    ProviderAuthError,
    ProviderConfigError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.providers.http.connection_faults import refused_by_proxy
from embed_star.providers.http.error_bodies import INSIDE_200, Refusal
from embed_star.providers.http.length_errors import beyond_limit, has_too_many_texts, is_too_long

_MODEL_CODES = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_KEY_CODES = frozenset({"invalid_api_key", "invalid_authentication", "authentication_error"})
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_COUNTRY_CODES = frozenset({"unsupported_country_region_territory", "unsupported_country"})
_NO_MODEL = re.compile(
    # OpenAI, vLLM; LiteLLM; Together
    r"(the )?model\b.{0,200}?\b(does not exist|not found|is not available)"
    r"|(/embeddings: )?invalid model\b"
    r"|unable to access non-serverless model",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"(incorrect|invalid|missing|no|expired|unknown)?\s*api[ _-]?key\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and the model, with the names of their settings, for error messages."""

    provider: str
    base_url: str = field(repr=False)  # may hold a user and a password
    url_setting: str
    model: str
    key: SecretStr = field(default=SecretStr(""))
    key_setting: str = ""

    @property
    def label(self) -> str:
        """The provider and its address without a user or a password, for people."""
        scheme, _, rest = self.base_url.partition("://")
        return f"{self.provider} at {scheme}://{rest.rpartition('@')[2]}"


def error_for(refusal: Refusal, endpoint: Endpoint, wait_s: float | None = None) -> EmbedStarError:
    """The error of ours for `refusal`. `wait_s` is the wait that it asks for."""
    status, label = refusal.status, endpoint.label
    words = {refusal.code, refusal.kind}
    if 300 <= status < 400:
        return ProviderConfigError(
            f"{label} redirects to another address (HTTP {status}), which is not followed "
            f"with a key; set {endpoint.url_setting} to the final address"
        )
    if words & _MODEL_CODES or (status in (400, 403, 404, 422) and _no_model(refusal)):
        return ProviderConfigError(
            f"{label} does not serve the model {endpoint.model} (HTTP {status}); "
            "set EMBEDDING_MODEL to one that it serves"
        )
    return (
        _no_access(refusal, endpoint)
        or _too_much(refusal, endpoint)
        or _plain(refusal, endpoint, wait_s)
    )


def _no_access(refusal: Refusal, endpoint: Endpoint) -> EmbedStarError | None:
    status, label = refusal.status, endpoint.label
    words = {refusal.code, refusal.kind}
    if status == 407:  # no provider's: those have 401
        return ProviderConfigError(refused_by_proxy(status, endpoint.base_url))
    if status == 402 or words & _QUOTA_CODES:
        return ProviderAuthError(
            f"{label} says that the account has no credit left (HTTP {status}); "
            f"top it up, or change {_key_name(endpoint)}"
        )
    if words & _COUNTRY_CODES:
        return ProviderAuthError(
            f"{label} does not serve the country that this call came from (HTTP {status}); "
            f"call from another network, or set {endpoint.url_setting} to another provider"
        )
    if status == 403 and not refusal.is_json and refusal.has_body:
        return ProviderAuthError(
            f"something in front of {label} refused the call (HTTP 403 without the provider's own "
            "answer): a firewall, a proxy or a block of this network or country; let this "
            f"machine's address through there, or check {endpoint.url_setting}"
        )
    if status in (401, 403) or (status == 400 and _bad_key(refusal)):
        return ProviderAuthError(
            f"{label} refused access (HTTP {status}); check {_key_name(endpoint)}"
        )
    return None


def _too_much(refusal: Refusal, endpoint: Endpoint) -> EmbedStarError | None:
    """InputRejected or InputTooLong: errors that splitting the batch can narrow down."""
    status, label = refusal.status, endpoint.label
    if status in (404, 405, 410, 501):
        return None
    if status in (413, 429) and (limit := beyond_limit(refusal)) is not None:
        return InputTooLong(
            f"{label} takes no request as large as this one"
            f"{f', its limit is {limit} tokens' if limit else ''} (HTTP {status}); "
            "lower BATCH_MAX_TOKENS, or TEXT_MAX_TOKENS if it is one text"
        )
    if status != 429 and has_too_many_texts(refusal):
        rejected = InputRejected(
            f"{label} takes fewer texts a call (HTTP {status}); lower BATCH_SIZE to what it takes"
        )
        rejected.too_many = True
        return rejected
    if is_too_long(refusal):
        return InputTooLong(
            f"{label} says that a text is too long for {endpoint.model} (HTTP {status}); "
            "lower TEXT_MAX_TOKENS"
        )
    return None


def _plain(refusal: Refusal, endpoint: Endpoint, wait_s: float | None) -> EmbedStarError:
    status, label = refusal.status, endpoint.label
    if status in (404, 405, 410):
        return ProviderConfigError(
            f"{label} has no embeddings there, or no model {endpoint.model} (HTTP {status}); "
            f"check {endpoint.url_setting} and EMBEDDING_MODEL"
        )
    if status == 501:
        return ProviderConfigError(
            f"{label} computes no embeddings as it runs now (HTTP 501); start it with them (for "
            f"llama.cpp: --embeddings), or correct {endpoint.url_setting} or EMBEDDING_MODEL"
        )
    if status in (400, 413, 422):
        return InputRejected(
            f"{label} refused these texts (HTTP {status}); if it refuses every batch, "
            "lower BATCH_SIZE or TEXT_MAX_TOKENS"
        )
    if status == 429:
        return ProviderThrottled(f"{label} asks for fewer requests (HTTP 429)", wait_s)
    if status == INSIDE_200:
        return ProviderUnavailable(f"{label} answered an error without a status (HTTP 200)")
    return ProviderUnavailable(f"{label} cannot answer now (HTTP {status})")


def _no_model(refusal: Refusal) -> bool:
    return refusal.param == "model" or bool(_NO_MODEL.match(refusal.message))


def _bad_key(refusal: Refusal) -> bool:
    return bool({refusal.code, refusal.kind} & _KEY_CODES or _BAD_KEY.match(refusal.message))


def _key_name(endpoint: Endpoint) -> str:
    return endpoint.key_setting or f"the user and password in {endpoint.url_setting}"
