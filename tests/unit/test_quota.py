"""`quota_pause`: what providers' headers say about what is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.providers.http.rate_limit_headers import QUOTA_PAUSE_MAX_S, quota_pause


def openai(requests: str, reset: str, tokens: str = "149984", tokens_reset: str = "6m0s"):  # type: ignore[no-untyped-def]
    return {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-requests": requests,
        "x-ratelimit-remaining-tokens": tokens,
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-reset-tokens": tokens_reset,
    }


def together(remaining: str, reset: str) -> dict[str, str]:
    return {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": remaining,
        "x-ratelimit-reset": reset,
    }


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, None),
        ({"content-type": "application/json"}, None),
        (openai("59", "1s"), None),
        (openai("0", "1s"), 1.0),
        (openai("0", "20ms"), 0.02),
        (openai("59", "1s", "0", "6m0s"), 360.0),
        (openai("0", "1s", "0", "6m0s"), 360.0),
        (openai("0", "59.7s"), 59.7),
        (openai("0", "1m2.5s"), 62.5),
        (openai("0", "1h0m0s"), 3600.0),
        (openai("0", "1m30s500ms"), 90.5),
        (openai(" 0 ", " 1s "), 1.0),
        (openai("0.0", "2S"), 2.0),
        (openai("0", "7"), 7.0),
        (together("0", "3"), 3.0),
        (together("0", "3.25"), 3.25),
        (together("12", "3"), None),
        ({name.title(): value for name, value in together("0", "3").items()}, 3.0),
        # Incomplete, over, absurd
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-reset": "30"}, None),
        (together("0", "0"), None),
        (openai("0", "0s"), None),
        (together("0", "1800000000"), None),  # a point in time
        (openai("0", "24h0m0s"), None),
        (openai("0", "1d"), None),
        (together("0", "9" * 400), None),
        (together("0", "-5"), None),
        (together("0", "1e3"), None),
        (together("0", "inf"), None),
        (together("0", "nan"), None),
        (together("0", "soon"), None),
        (together("0", ""), None),
        (together("0", "s"), None),
        (together("0", "1s1m"), None),
        (together("0", "1 fortnight"), None),
        (together("0", "Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (together("-1", "30"), None),  # no limit, say some
        (together("none", "30"), None),
        (together("", "30"), None),
        (together("0.5", "30"), None),
        (together("00", "٣"), None),
    ],
)
def test_an_exhausted_limit_pauses_until_its_reset(
    headers: dict[str, str], pause_s: float | None
) -> None:
    assert quota_pause(headers) == (None if pause_s is None else pytest.approx(pause_s))


@given(st.text(), st.text())
def test_any_headers_give_a_pause_within_bounds(remaining: str, reset: str) -> None:
    pause_s = quota_pause(together(remaining, reset) | openai(remaining, reset))
    assert pause_s is None or 0.0 < pause_s <= QUOTA_PAUSE_MAX_S
