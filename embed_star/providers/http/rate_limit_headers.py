"""Rate-limit headers: the quota that is left, and when it is renewed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

QUOTA_PAUSE_MAX_S = 3600.0
"""Longer resets are ignored: a daily quota, a point in time (GitHub's) or a mistake."""

# Remaining and reset. OpenAI and its like count requests and tokens apart, and reset is when
# the bucket is full again; Together has one pair, and reset is the end of its window.
_PAIRS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
# After a 429, also Anthropic's order of words, and the IETF's draft.
_ALL_PAIRS = (
    *_PAIRS,
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,12})?"
_SECONDS = re.compile(_NUMBER)
_DURATION = re.compile(
    rf"(?=[0-9])(?:({_NUMBER}) ?d(?:ays?)? ?)?(?:({_NUMBER}) ?h(?:ours?)? ?)?"
    rf"(?:({_NUMBER}) ?m(?:in(?:ute)?s?)? ?)?(?:({_NUMBER}) ?s(?:ec(?:ond)?s?)? ?)?"
    rf"(?:({_NUMBER}) ?m(?:illi)?s(?:ec(?:ond)?s?)?)?"
)
_LIST = re.compile(r"(?:^|[;, ])(r|remaining|t|reset)=([0-9]{1,9})", re.IGNORECASE)
"""In the IETF's single header: `"default";r=0;t=30`, or `limit=9, remaining=0, reset=30`."""
_UNITS_S = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_NOTHING = re.compile(r"0{1,9}(?:\.0{1,9})?")


def quota_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds until an exhausted quota is renewed; None while every quota lasts.

    Names are taken in any case. Of several exhausted quotas the longest counts. A pair that
    is incomplete, unreadable, negative, over at once or longer than `QUOTA_PAUSE_MAX_S` is
    ignored: a provider that is really exhausted answers 429 to the next call.
    """
    found = {name.lower(): value.strip() for name, value in headers.items()}
    waits = [
        wait_s
        for remaining, reset in _PAIRS
        if _NOTHING.fullmatch(found.get(remaining, ""))
        and (wait_s := duration_s(found.get(reset, ""))) is not None
        and 0.0 < wait_s <= QUOTA_PAUSE_MAX_S
    ]
    return max(waits, default=None)


def resets(headers: Mapping[str, str], *, used_up: bool) -> list[str]:
    """The resets of the limits that may have caused a 429; header names in lower case.

    With `used_up`, those of which nothing is left, or of which that is not said; else those
    of tokens, or for all, of which less may have been left than the request needed.
    """
    found = [(name, headers.get(left, ""), headers.get(name)) for left, name in _ALL_PAIRS]
    known = {name for name, _, _ in found}
    for name, value in headers.items():  # gateways have names of their own, for each limit
        if "reset" in name and "limit" in name and name not in known:
            found.append((name, headers.get(name.replace("reset", "remaining"), ""), value))
    parts = {key.lower(): value for key, value in _LIST.findall(headers.get("ratelimit", ""))}
    left = parts.get("r") or parts.get("remaining", "")
    found.append(("ratelimit", left, parts.get("t") or parts.get("reset")))
    return [
        reset
        for name, left, reset in found
        if reset and (_may_be_used_up(left) if used_up else "requests" not in name)
    ]


def _may_be_used_up(left: str) -> bool:
    return not left or bool(_NOTHING.fullmatch(left))


def duration_s(value: str) -> float | None:
    """Seconds in "1s", "6m0s", "20ms", "1h 2m 3.5s", "30 seconds" or a plain number of seconds,
    else None."""
    if _SECONDS.fullmatch(value):
        return float(value)
    match = _DURATION.fullmatch(value.lower())
    if match is None:
        return None
    return math.fsum(
        float(n) * unit_s for n, unit_s in zip(match.groups("0"), _UNITS_S, strict=True)
    )
