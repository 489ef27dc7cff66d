"""Errors inside a success: which status each stands for, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputTooLong,
    ProviderAuthError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.providers.error_responses import Endpoint, error_for
from embed_star.providers.http.error_bodies import Refusal

ENDPOINT = Endpoint("openai", "http://llm.example/v1", "OPENAI_BASE_URL", "bge-m3")

NESTED = json.dumps(
    {"error": {"code": 429, "message": "exhausted", "status": "RESOURCE_EXHAUSTED"}}
)
"""A gateway that puts the next one's answer into its own message."""


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        ({"error": {"message": "HTTP 429 Too Many", "code": 429}}, 429, ProviderThrottled),
        ({"error": {"message": "no credit", "code": "402"}}, 402, ProviderAuthError),
        ({"error": {"message": "no credit", "code": 402.0}}, 402, ProviderAuthError),
        ({"error": {"message": "down", "status": 503}}, 503, ProviderUnavailable),
        ({"error": {"message": "down", "status_code": "500"}}, 500, ProviderUnavailable),
        ({"error": {"message": "bad", "code": "400 Bad Request"}}, 400, InputRejected),
        ({"error": {"message": "busy", "status": "RESOURCE_EXHAUSTED"}}, 429, ProviderThrottled),
        ({"error": {"message": "no", "type": "rate_limit_error"}}, 429, ProviderThrottled),
        ({"error": {"message": "no", "code": "invalid_api_key"}}, 401, ProviderAuthError),
        ({"error": {"message": "no", "code": "insufficient_quota"}}, 402, ProviderAuthError),
        ({"error": "rate limit exceeded"}, 429, ProviderThrottled),
        ({"error": "HTTP 503: upstream is down"}, 503, ProviderUnavailable),
        ({"error": "Error code: 401 - unknown key"}, 401, ProviderAuthError),
        ({"error": "something went wrong"}, 200, ProviderUnavailable),
        ({"error": {"message": "something went wrong", "code": None}}, 200, ProviderUnavailable),
        ({"error": {"message": "maximum context length is 512"}}, 200, InputTooLong),
        ({"error": {"message": NESTED}}, 429, ProviderThrottled),
        ({"error": {"error": {"message": "x", "code": 429}}}, 429, ProviderThrottled),
        ({"error": {"message": "Provider returned error", "code": 429}}, 429, ProviderThrottled),
        (
            {"error": {"message": "litellm.RateLimitError: RateLimitError: no more"}},
            429,
            ProviderThrottled,
        ),
        ({"detail": {"error": {"message": "x", "status": 402}}}, 402, ProviderAuthError),
        ({"detail": "Too many requests"}, 429, ProviderThrottled),
        ({"errors": [{"code": "429", "message": "x"}]}, 429, ProviderThrottled),
        ({"object": "error", "message": "no", "code": 429}, 429, ProviderThrottled),
        ({"code": 429, "message": "slow down", "data": None}, 429, ProviderThrottled),
        ({"status": 402, "error": "Payment Required"}, 402, ProviderAuthError),
        ({"data": [], "error": {"message": "x", "code": 429}}, 429, ProviderThrottled),
        ({"data": [{"embedding": None}], "error": {"code": 429}}, 429, ProviderThrottled),
        ({"embeddings": [], "error": "rate limit"}, 429, ProviderThrottled),
        ([{"error": {"message": "x", "code": 429}}], 429, ProviderThrottled),
        (
            {"code": 20042, "message": "input batch size 136 > maximum allowed batch size 64"},
            200,
            InputRejected,
        ),
        # Where an error stands with other servers
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, 429, ProviderThrottled),
        (
            {
                "vectors": None,
                "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"},
            },
            402,
            ProviderAuthError,
        ),
        ({"error_code": 17, "error_msg": "Open api daily limit"}, 200, ProviderUnavailable),
        ({"success": False, "msg": "invalid token", "code": 401}, 401, ProviderAuthError),
        ({"code": 10013, "msg": "app id error", "data": None}, 200, ProviderUnavailable),
        ({"fault": {"code": 900802, "message": "Message throttled out"}}, 429, ProviderThrottled),
        ({"message": "API rate limit exceeded"}, 429, ProviderThrottled),
        ({"data": {"error": {"message": "x", "code": 429}}}, 429, ProviderThrottled),
        ({"data": [{"object": "error", "message": "x", "code": 503}]}, 503, ProviderUnavailable),
    ],
)
def test_an_error_inside_a_success_is_found(
    answer: Any, status: int, kind: type[EmbedStarError]
) -> None:
    refusal = Refusal.inside(answer)
    assert refusal is not None
    assert refusal.status == status
    assert type(error_for(refusal, ENDPOINT)) is kind


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"embedding": [1.0]}], "error": None},
        {"data": [{"embedding": [1.0]}], "error": "", "detail": None},
        {"data": [{"embedding": "AAAA"}], "code": 0, "message": "ok"},
        {"data": [{"embedding": [1.0]}], "error": {"message": "one of them was cut"}},
        {"data": [{"embedding": [1.0]}], "base_resp": {"status_code": 0, "status_msg": "success"}},
        {"data": {"embedding": [1.0]}},
        {"embeddings": [[1.0]], "error": None},
        {"data": []},
        {"object": "list", "data": [], "model": "x"},
        {},
        {"message": "hello"},
        [],
        [1],
        "error",
        None,
    ],
)
def test_a_success_is_no_error(answer: Any) -> None:
    assert Refusal.inside(answer) is None


def test_a_text_that_holds_an_error_of_ours_blames_no_key() -> None:
    echo = 'cannot embed: {"error": {"code": "invalid_api_key", "status": 401}}'
    refusal = Refusal.inside({"error": {"message": echo}})
    assert refusal is not None
    assert type(error_for(refusal, ENDPOINT)) is ProviderUnavailable


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "message", "code", "status", "metadata"])
            | st.sampled_from(["data", "fault", "base_resp", "msg", "error_code", "retryAfter"])
            | st.text(),
            inner,
        )
    ),
)


@given(json_values)
def test_any_body_is_read_without_a_crash(answer: Any) -> None:
    for refusal in (Refusal.inside(answer), Refusal.of(500, json.dumps(answer).encode())):
        if refusal is not None:
            assert isinstance(error_for(refusal, ENDPOINT), EmbedStarError)
