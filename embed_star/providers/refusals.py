"""What a provider's refusal means: HTTP status and error body to our error tree.

The body only helps to tell kinds of refusals apart and is never repeated: it may hold
the text of a row or a part of the key. A row's text may also be echoed in it, so prose
is only trusted at the beginning of a message, codes only as a whole; a repository whose
description says "invalid API key" must not stop the fleet.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

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

RETRY_AFTER_MAX_S = 3600.0
"""A longer wait is asked for by mistake, or is worth a new try each hour all the same."""

_MODEL_CODES = frozenset({"model_not_found", "model_not_available", "invalid_model"})
_KEY_CODES = frozenset({"invalid_api_key", "invalid_authentication", "authentication_error"})
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_NO_MODEL = re.compile(
    # OpenAI, vLLM; LiteLLM; Together
    r"(the )?model\b.{0,200}?\b(does not exist|not found|is not available)"
    r"|(/embeddings: )?invalid model\b"
    r"|unable to access non-serverless model",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    # OpenAI, vLLM; Ollama; TEI
    r"this model's maximum context length is\b"
    r"|(the )?input (length )?exceeds (the )?(maximum )?context length"
    r"|`?inputs?`? must have less than \d+ tokens",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"(incorrect|invalid|missing|no|expired|unknown)?\s*api[ _-]?key\b", re.IGNORECASE
)
_SECONDS = re.compile(r"\d{1,18}(\.\d{1,9})?")
_PLAIN_WORD = re.compile(r"[a-z]{2,20}([_.-][a-z]{2,20}){0,5}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where calls go, for which model, and the settings that say so: errors name them."""

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


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not a success. The words of the body are for comparing only."""

    status: int
    code: str = ""
    kind: str = ""
    param: str = ""
    message: str = field(default="", repr=False)
    is_json: bool = False

    @property
    def said(self) -> str:
        """The status, and the body's code or type if it is a plain word: no text, no key."""
        words = [one for one in (self.code, self.kind) if _PLAIN_WORD.fullmatch(one)]
        return f"HTTP {self.status}, {words[0]}" if words else f"HTTP {self.status}"

    @classmethod
    def of(cls, status: int, body: bytes) -> Refusal:
        """Read any of the usual shapes of an error body; never raises."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return cls(status)
        if isinstance(answer, list) and answer:  # Gemini wraps the object
            answer = answer[0]
        if not isinstance(answer, dict):
            return cls(status)
        error = answer.get("error", answer.get("detail", answer))
        if isinstance(error, str):  # Ollama, TEI
            error = {"message": error, "type": answer.get("error_type")}
        if not isinstance(error, dict):  # FastAPI's list of faults
            error = {}
        return cls(
            status,
            code=_word(error.get("code")),
            kind=_word(error.get("type")),
            param=_word(error.get("param")),
            message=str(error.get("message") or "").strip(),
            is_json=True,
        )


def _word(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def error_for(refusal: Refusal, endpoint: Endpoint, wait_s: float | None = None) -> EmbedStarError:
    """The error that `refusal` is. `wait_s` is what its Retry-After header said."""
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
    if status == 402 or words & _QUOTA_CODES:
        return ProviderAuthError(
            f"{label} says that the account has no credit left (HTTP {status}); "
            f"top it up, or change {_key_name(endpoint)}"
        )
    if status in (401, 403) or (status == 400 and _bad_key(refusal)):
        return ProviderAuthError(
            f"{label} refused access (HTTP {status}); check {_key_name(endpoint)}"
        )
    if status in (400, 413, 422) and ("context_length_exceeded" in words or _is_too_long(refusal)):
        return InputTooLong(
            f"{label} says that a text is too long for {endpoint.model} (HTTP {status}); "
            "lower TEXT_MAX_TOKENS"
        )
    return _plain(status, endpoint, wait_s)


def _plain(status: int, endpoint: Endpoint, wait_s: float | None) -> EmbedStarError:
    label = endpoint.label
    if status in (404, 405, 410):
        return ProviderConfigError(
            f"{label} has no embeddings there, or no model {endpoint.model} (HTTP {status}); "
            f"check {endpoint.url_setting} and EMBEDDING_MODEL"
        )
    if status in (400, 413, 422):
        return InputRejected(
            f"{label} refused these texts (HTTP {status}); if it refuses every batch, "
            "lower BATCH_SIZE or TEXT_MAX_TOKENS"
        )
    if status == 429:
        return ProviderThrottled(f"{label} asks for fewer requests (HTTP 429)", wait_s)
    return ProviderUnavailable(f"{label} cannot answer now (HTTP {status})")


def _no_model(refusal: Refusal) -> bool:
    return refusal.param == "model" or bool(_NO_MODEL.match(refusal.message))


def _is_too_long(refusal: Refusal) -> bool:
    return bool(_TOO_LONG.match(refusal.message))


def _bad_key(refusal: Refusal) -> bool:
    return bool({refusal.code, refusal.kind} & _KEY_CODES or _BAD_KEY.match(refusal.message))


def _key_name(endpoint: Endpoint) -> str:
    return endpoint.key_setting or f"the user and password in {endpoint.url_setting}"


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Seconds to wait by a Retry-After header: 0 to `RETRY_AFTER_MAX_S`, None if it has none.

    `value` is a number of seconds or an HTTP date. A date is taken relative to `date`,
    the answer's own Date header, where there is one, so that a wrong clock here does not
    count. What is neither (negative, words) is None.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_MAX_S)
    moment = _moment(text)
    if moment is None:
        return None
    wait_s = (moment - (_moment(date or "") or datetime.now(UTC))).total_seconds()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
