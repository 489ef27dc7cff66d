"""How long a 429 asks to wait, in each of the ways in which providers say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.http.retry_after import RETRY_AFTER_MAX_S, asked_wait_s

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
DATE_S = 784111777


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after": "34s"}, 34.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "20", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "2500", "retry-after": "1"}, 2.5),
        ({"retry-after-ms": "soon"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "1.5s"}, 1.5),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"X-RateLimit-Reset": "30"}, 30.0),
        ({"x-ratelimit-reset": str(DATE_S + 45)}, 45.0),
        ({"x-ratelimit-reset": f"{DATE_S + 45}000"}, 45.0),
        ({"x-ratelimit-reset": "1994-11-06T08:50:07Z"}, 30.0),
        ({"x-ratelimit-reset-requests": "1994-11-06T08:50:07+00:00"}, 30.0),
        ({"anthropic-ratelimit-tokens-reset": "1994-11-06T08:50:07Z"}, 30.0),
        ({"x-ratelimit-reset": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
        ({"ratelimit-reset": "12"}, 12.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:07 GMT"}, 30.0),
        ({"retry-after": "1994-11-06T08:50:07Z"}, 30.0),
        ({"retry-after": "30 seconds"}, 30.0),
        ({"x-retry-after": "30"}, 30.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset-tokens": "1m 30s"}, 90.0),
        ({"x-ratelimit-reset-after": "12.5"}, 12.5),
        ({"x-ratelimit-reset-minute": "30", "x-ratelimit-remaining-minute": "0"}, 30.0),
        ({"rate-limit-reset": "30"}, 30.0),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"ratelimit": '"day";r=9;t=50, "minute"'}, 50.0),
        # Which limit it is for
        (
            {
                "x-ratelimit-remaining-requests": "9990",
                "x-ratelimit-reset-requests": "50m",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "4s",
            },
            4.0,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "9990",
                "x-ratelimit-reset-requests": "50m",
                "x-ratelimit-remaining-tokens": "12",
                "x-ratelimit-reset-tokens": "4s",
            },
            4.0,
        ),
        (
            {
                "retry-after": "1",
                "x-ratelimit-remaining-tokens": "12",
                "x-ratelimit-reset-tokens": "59s",
            },
            1.0,
        ),
        (
            {
                "retry-after": "1",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "59s",
            },
            59.0,
        ),
        # Over, unreadable, too long
        ({"x-ratelimit-reset": "0"}, None),
        ({"x-ratelimit-reset": str(DATE_S - 45)}, None),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-reset": "-5"}, None),
        ({"x-ratelimit-reset-requests": "24h0m0s"}, RETRY_AFTER_MAX_S),
        ({"x-ratelimit-reset": str(DATE_S + 86_400)}, RETRY_AFTER_MAX_S),
        ({"retry-after-ms": "9" * 18}, RETRY_AFTER_MAX_S),
    ],
)
def test_the_wait_is_found_in_the_headers(headers: dict[str, str], wait_s: float | None) -> None:
    found = asked_wait_s({"Date": DATE, **headers})
    assert found == (None if wait_s is None else pytest.approx(wait_s))


def google(delay: Any) -> dict[str, Any]:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    return {"code": 429, "message": "exhausted", "details": [{"@type": "Help"}, info]}


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        ({"error": google("34s")}, 34.0),
        ([{"error": google("34.074824224s")}], 34.074824224),
        ({"error": google({"seconds": 7})}, 7.0),
        ({"error": {"message": json.dumps({"error": google("34s")}), "code": 429}}, 34.0),
        ({"error": "loading", "estimated_time": 20.5}, 20.5),
        ({"error": {"message": "slow down", "retry_after": 3}}, 3.0),
        ({"error": google("17.5s")}, 17.5),
        ({"error": google("1m2s")}, 62.0),
        ({"error": google({"seconds": "7"})}, 7.0),
        ({"retryAfter": 17}, 17.0),
        ({"error": {"retry_after_ms": 1500}}, 1.5),
        ({"error": {"message": "Please try again in 1m2.5s."}}, 62.5),
        ({"error": {"message": "Try again in 1h3m."}}, RETRY_AFTER_MAX_S),
        ({"error": {"message": "Your quota will reset after 17 seconds"}}, 17.0),
        ({"error": {"message": "wait for 3 models"}}, None),
        ({"error": google("soon")}, None),
        ({"error": google(None)}, None),
        ({"error": google("99999s")}, RETRY_AFTER_MAX_S),
        ({"error": {"message": "Rate limit reached. Please try again in 4.77s. More?"}}, 4.77),
        ({"error": {"message": "Please try again in 120ms."}}, 0.12),
        ({"error": {"message": "Please retry after 26 seconds."}}, 26.0),
        ({"error": {"message": "try again in 2 minutes"}}, 120.0),
        (
            {
                "error": {
                    "message": "Rate limit exceeded",
                    "metadata": {"headers": {"X-RateLimit-Reset": f"{DATE_S + 9}000"}},
                }
            },
            9.0,
        ),
        ({"error": {"message": "later, perhaps"}}, None),
    ],
)
def test_the_wait_is_found_in_the_body(body: Any, wait_s: float | None) -> None:
    refusal = Refusal.of(429, json.dumps(body).encode())
    found = asked_wait_s({"date": DATE, **refusal.headers}, refusal.wait_s, refusal.words)
    assert found == (None if wait_s is None else pytest.approx(wait_s))


def test_the_longest_of_all_counts() -> None:
    headers = {"retry-after": "2", "x-ratelimit-reset-tokens": "3s"}
    assert asked_wait_s(headers, 34.0, "try again in 50s") == 34.0


@given(st.text(), st.text(), st.text())
def test_any_words_give_a_wait_within_bounds(after: str, reset: str, words: str) -> None:
    headers = {"retry-after": after, "retry-after-ms": reset, "x-ratelimit-reset": reset}
    wait_s = asked_wait_s(headers, None, words)
    assert wait_s is None or 0.0 <= wait_s <= RETRY_AFTER_MAX_S
