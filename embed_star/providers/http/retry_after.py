"""The wait that a 429 asks for, in all the forms that providers use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from embed_star.providers.http.rate_limit_headers import duration_s, resets

RETRY_AFTER_MAX_S = 3600.0
"""Longest wait. A longer one is a mistake of the provider, or worth one try an hour."""

_EPOCH_MIN = 100_000_000
"""Larger numbers are points in time: in seconds, or in ms from a thousand times this on."""
_SECONDS = re.compile(r"\d{1,18}(\.\d{1,9})?")
_PROSE = re.compile(
    r"\b(?:again|retry|wait|resets?)\b.{0,12}?\b(?:in|after|for)\W{1,2}"
    r"(\d[\d.]{0,20}(?: ?(?:[dhms]|ms|millis\w*|sec\w*|min\w*|hours?|days?)(?:(?=\d)|\b)"
    r"(?: ?\d[\d.]{0,20}(?= ?[a-z]))?){1,4})",
    re.IGNORECASE,
)


def asked_wait_s(
    headers: Mapping[str, str], body_wait_s: float | None = None, words: str = ""
) -> float | None:
    """Seconds to wait, 0 to `RETRY_AFTER_MAX_S`; None when the answer names no wait.

    The longest of Retry-After, its like in milliseconds, what the body says, and the
    resets of the limits that are used up. Where nothing of this says it, other resets
    count, then prose.
    """
    found = {name.lower(): value.strip() for name, value in headers.items()}
    date = found.get("date")
    waits = [
        *(retry_after_s(found.get(name), date) for name in ("retry-after", "x-retry-after")),
        *(_milliseconds(found.get(name, "")) for name in ("retry-after-ms", "x-ms-retry-after-ms")),
        body_wait_s,
        *(_reset_s(value, date) for value in resets(found, used_up=True)),
    ]
    wait_s = _longest(waits)
    if wait_s is None:
        wait_s = _longest([_reset_s(value, date) for value in resets(found, used_up=False)])
    if wait_s is None:
        wait_s = _prose_s(words)
    return None if wait_s is None else min(wait_s, RETRY_AFTER_MAX_S)


def _longest(waits: Sequence[float | None]) -> float | None:
    return max((wait for wait in waits if wait is not None), default=None)


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Seconds to wait by a Retry-After header: 0 to `RETRY_AFTER_MAX_S`, None if it has none.

    `value` is a number of seconds, an HTTP date, or, as some write it, a duration such as
    "34s". A date is taken relative to `date`, the answer's own Date header, where there is
    one, so that a wrong clock here does not count. Any other value (negative, words) is None.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_MAX_S)
    moment = _moment(text) or _iso(text)
    wait_s = duration_s(text) if moment is None else (moment - _now(date)).total_seconds()
    return None if wait_s is None else min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def _reset_s(value: str, date: str | None) -> float | None:
    """Seconds in a reset: a duration, a number of seconds, or a point in time; None if past."""
    seconds = duration_s(value)
    if seconds is None and _SECONDS.fullmatch(value):
        seconds = float(value)  # longer than a duration is: a point in time
    if seconds is not None and seconds >= _EPOCH_MIN:
        at_s = seconds / 1000 if seconds >= _EPOCH_MIN * 1000 else seconds
        seconds = at_s - _now(date).timestamp()
    if seconds is None and (moment := _iso(value) or _moment(value)):
        seconds = (moment - _now(date)).total_seconds()
    return seconds if seconds is not None and seconds > 0 else None


def _milliseconds(value: str) -> float | None:
    return float(value) / 1000 if _SECONDS.fullmatch(value) else None


def _prose_s(words: str) -> float | None:
    match = _PROSE.search(words)
    return duration_s(match[1]) if match else None


def _now(date: str | None) -> datetime:
    return _moment(date or "") or datetime.now(UTC)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
