"""Error bodies in any of their usual shapes, also inside a 200.

Nothing of it is repeated: it may hold the text of a row or a part of the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from embed_star.providers.http.rate_limit_headers import duration_s

INSIDE_200 = 200
"""The status of an error inside a success when neither a number nor words tell it."""

WORDS_MAX = 8192
"""Characters of an error's message that are searched."""

_PLAIN_WORD = re.compile(r"[a-z]{2,20}([_.-][a-z]{2,20}){0,5}")
_DEPTH_MAX = 4  # of errors within errors: a gateway's, the next one's, the server's
_MESSAGES = ("message", "msg", "error_msg", "error_message", "errmsg", "status_msg")
_INNER = ("error", "errors", "detail", "fault", "base_resp")
_PROSE = (*_MESSAGES, *_INNER, "details", "title", "reason", "raw")
_STATUS_KEYS = ("status", "status_code", "statusCode", "http_status", "http_code", "code")
_CODE_KEYS = (*_STATUS_KEYS, "error_code", "errcode")
_WAIT_KEYS = {
    **dict.fromkeys(("retryDelay", "retry_delay", "estimated_time"), 1.0),
    **dict.fromkeys(("retry_after", "retryAfter", "retry_after_seconds"), 1.0),
    **dict.fromkeys(("retry_after_ms", "retryAfterMs"), 0.001),
}
"""Keys of a wait, and the seconds of its unit."""
_STATUS_WORDS: dict[str, int] = {
    # Google's codes; OpenAI's, Anthropic's and their like; LiteLLM's classes of errors
    **dict.fromkeys(("resource_exhausted", "rate_limit_exceeded", "rate_limit_error"), 429),
    **dict.fromkeys(("too_many_requests", "ratelimiterror", "throttlingexception"), 429),
    **dict.fromkeys(("unauthenticated", "invalid_api_key", "authentication_error"), 401),
    **dict.fromkeys(("unauthorized", "authenticationerror", "invalid_authentication"), 401),
    **dict.fromkeys(("permission_denied", "permission_error", "forbidden"), 403),
    **dict.fromkeys(("insufficient_quota", "insufficient_credits", "payment_required"), 402),
    **dict.fromkeys(("insufficient_balance", "billing_hard_limit_reached", "billing_error"), 402),
    **dict.fromkeys(("invalid_argument", "failed_precondition", "invalid_request_error"), 400),
    **dict.fromkeys(("badrequesterror", "bad_request", "invalidparameter"), 400),
    **dict.fromkeys(("not_found", "not_found_error", "notfounderror", "model_not_found"), 404),
    **dict.fromkeys(("unavailable", "overloaded_error", "serviceunavailableerror"), 503),
}
_STATUS_PROSE = tuple(
    # Only at the beginning: further on, a row's text may be echoed.
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"(?:[\w .:]{0,40}\b(?:http|status|code|error)\W{1,3})?([45]\d\d)\b", 0),
        (r".{0,40}?\b(rate.?limit|too many requests|throttl)", 429),
        (r"(\w+ ){0,3}insufficient.(quota|credit|balance|funds)", 402),
        (r"unauthori[sz]ed|(incorrect|invalid|missing).api.?key", 401),
    )
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response. Its words are compared, never shown."""

    status: int
    code: str = ""
    kind: str = ""
    param: str = ""
    message: str = field(default="", repr=False)
    words: str = field(default="", repr=False)
    """All of its messages, the main one first. They may echo a row's text."""
    is_json: bool = False
    has_body: bool = True
    wait_s: float | None = None
    """The wait that the body asks for, in seconds."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that a gateway passes on inside the body."""

    @property
    def said(self) -> str:
        """The status, and the body's code or type if it is a plain word: no text, no key."""
        words = [one for one in (self.code, self.kind) if _PLAIN_WORD.fullmatch(one)]
        return f"HTTP {self.status}, {words[0]}" if words else f"HTTP {self.status}"

    @classmethod
    def of(cls, status: int, body: bytes) -> Refusal:
        """Read the body of an answer with an error's status; never raises."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            text = body.decode("utf-8", "replace").strip()
            words = "" if text[:1] == "<" else text[:WORDS_MAX]  # no page's
            return cls(status, words=words, has_body=bool(text))
        return cls._of_json(status, answer)

    @classmethod
    def inside(cls, answer: Any) -> Refusal | None:
        """The error inside the JSON of a success; None when there is none, or vectors too."""
        whole = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(whole, dict) or _has_vectors(whole) or not _speaks_of_error(whole):
            return None
        refusal = cls._of_json(INSIDE_200, answer)
        status = _status_in(list(_chain(whole)), refusal)
        return refusal if status is None else cls._of_json(status, answer)

    @classmethod
    def _of_json(cls, status: int, answer: Any) -> Refusal:
        chain = list(_chain(answer))
        if not chain:
            return cls(status, is_json=isinstance(answer, dict | list))
        texts = [text for one in chain if (text := one.get("message")) and isinstance(text, str)]
        return cls(
            status,
            code=_first_word(chain, "code"),
            kind=_first_word(chain, "type", "error_type"),
            param=_first_word(chain, "param"),
            message=texts[-1].strip() if texts else "",
            words="\n".join(dict.fromkeys(_prose(answer)))[:WORDS_MAX],
            is_json=True,
            wait_s=_wait_s(chain),
            headers=_headers_in(chain),
        )


def _chain(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The error object of a body and those within it, the outermost first."""
    if isinstance(value, list):  # Gemini wraps the object; FastAPI and others list faults
        value = value[0] if value else None
    if isinstance(value, str):
        value = _parsed(value) or {"message": value}
    if not isinstance(value, dict) or depth > _DEPTH_MAX:
        return
    message = next(filter(None, map(value.get, _MESSAGES)), None)
    yield {**value, "message": message}
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter
    inner = next(filter(None, map(value.get, _INNER)), None) or _parsed(raw) or _in_data(value)
    yield from _chain(inner or _parsed(message), depth + 1)


def _in_data(value: dict[str, Any]) -> Any:
    """An error that stands where the vectors would."""
    data = value.get("data")
    first = data[0] if isinstance(data, list) and data else data
    return first if isinstance(first, dict) and _speaks_of_error(first) else None


def _parsed(text: Any) -> dict[str, Any] | None:
    """The JSON object that the whole string is. An object within a string may be a row's."""
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None


def _first_word(chain: list[dict[str, Any]], *keys: str) -> str:
    """The innermost value of `keys` that is a word, in lower case."""
    for one in reversed(chain):
        for key in keys:
            value = one.get(key)
            if isinstance(value, str) and value.strip():
                return value.strip().lower()
    return ""


def _prose(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif depth > 2 * _DEPTH_MAX:
        return
    elif isinstance(value, list):
        for one in value[:20]:
            yield from _prose(one, depth + 1)
    elif isinstance(value, dict):
        # Not FastAPI's `input`, which repeats what was sent.
        for key in (*_PROSE, "metadata"):
            yield from _prose(value.get(key), depth + 1)


def _has_vectors(answer: dict[str, Any]) -> bool:
    items = answer.get("data") or answer.get("embeddings")
    return isinstance(items, list) and any(
        item.get("embedding") if isinstance(item, dict) else item for item in items
    )


def _speaks_of_error(answer: dict[str, Any]) -> bool:
    if any(map(answer.get, _INNER)) or answer.get("object") == "error":
        return True
    if not any(isinstance(answer.get(key), str) for key in _MESSAGES):
        return _in_data(answer) is not None
    # A message alone may be any server's greeting.
    return (
        answer.get("success") is False
        or any(map(answer.get, _CODE_KEYS))
        or any(pattern.match(text) for text in _messages([answer]) for pattern, _ in _STATUS_PROSE)
    )


def _status_in(chain: list[dict[str, Any]], refusal: Refusal) -> int | None:
    """The HTTP status that an error inside a success stands for."""
    values = [one.get(key) for one in reversed(chain) for key in _CODE_KEYS]
    for value in values:
        if isinstance(value, int | float | str) and (
            found := re.fullmatch(r"(?:HTTP[ /_-]*)?([45]\d\d)(?:\.0|\D.*)?", str(value).strip())
        ):
            return int(found[1])
    names = [*values, refusal.kind, *(text.partition(":")[0] for text in _messages(chain))]
    for name in names:
        word = name.strip().lower().rpartition(".")[2] if isinstance(name, str) else ""
        if word in _STATUS_WORDS:
            return _STATUS_WORDS[word]
    for text in _messages(chain):
        for pattern, status in _STATUS_PROSE:
            if match := pattern.match(text.strip()):
                return status or int(match[1])
    return None


def _messages(chain: list[dict[str, Any]]) -> list[str]:
    return [
        text
        for one in reversed(chain)
        for key in _MESSAGES
        if isinstance(text := one.get(key), str)
    ]


def _wait_s(value: Any, depth: int = 0) -> float | None:
    """Google's `retryDelay`, Hugging Face's `estimated_time`: seconds, wherever they stand."""
    if depth > 2 * _DEPTH_MAX:
        return None
    if isinstance(value, list):
        waits = [_wait_s(one, depth + 1) for one in value[:20]]
    elif isinstance(value, dict):
        waits = [_wait_s(one, depth + 1) for one in value.values()]
        for key in value.keys() & _WAIT_KEYS.keys():
            seconds = _seconds(value[key])
            waits.append(None if seconds is None else seconds * _WAIT_KEYS[key])
    else:
        return None
    return max((wait for wait in waits if wait is not None), default=None)


def _seconds(value: Any) -> float | None:
    if isinstance(value, dict):  # a Duration that was not put into words
        value = value.get("seconds")
    return None if isinstance(value, bool) else duration_s(str(value).strip())


def _headers_in(chain: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in chain:
        metadata = one.get("metadata")
        headers = metadata.get("headers") if isinstance(metadata, dict) else None
        if isinstance(headers, dict):
            found |= {str(key): str(value) for key, value in headers.items()}
    return found
