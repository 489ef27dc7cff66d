"""Providers over HTTP: the words, codes, numbers and times in refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputTooLong,
    ProviderAuthError,
    ProviderConfigError,
    ProviderThrottled,
    ProviderUnavailable,
)
from tests.contract.providers.conftest import DIMENSIONS, Make
from tests.support.scripted_provider import ScriptedProvider, vector_for

LLAMA_CPP = "input (992 tokens) is too large to process. increase the physical batch size"
CONTEXT = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
TPM = "Request too large for x on tokens per min (TPM): Limit 1000, Requested 1500."
TPM_USED = "Rate limit reached for x (TPM): Limit 1000, Used 800, Requested 300."


def error_of(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (500, error_of(LLAMA_CPP, type="server_error", code=500), InputTooLong),
        (400, error_of("no", type="exceed_context_size_error"), InputTooLong),
        (400, error_of(CONTEXT), InputTooLong),
        (500, error_of(f"litellm.BadRequestError: OpenAIException - {CONTEXT}"), InputTooLong),
        (413, {"error": "`inputs` must have less than 512 tokens. Given: 700"}, InputTooLong),
        (400, {"error": "the input length exceeds the context length"}, InputTooLong),
        (422, {"error": "batch size 50 > maximum allowed batch size 32"}, InputRejected),
        (429, error_of(TPM, type="tokens", code="rate_limit_exceeded"), InputTooLong),
        (413, error_of(TPM, type="tokens", code="rate_limit_exceeded"), InputTooLong),
        (429, error_of(TPM_USED, type="tokens"), ProviderThrottled),
        # Inside a success
        (200, error_of("HTTP 429 from upstream", code=429), ProviderThrottled),
        (200, error_of("no credit", code="402"), ProviderAuthError),
        (200, error_of("down", status=503), ProviderUnavailable),
        (200, {"detail": error_of("slow down", code=429)}, ProviderThrottled),
        (200, {"error": "something odd"}, ProviderUnavailable),
        (200, error_of(LLAMA_CPP), InputTooLong),
        (200, {"data": [], "embeddings": [], **error_of("x", code=401)}, ProviderAuthError),
        # The edge, and a server that computes no embeddings
        (501, error_of("This server does not support embeddings.", code=501), ProviderConfigError),
    ],
)
def test_an_error_s_words_decide_where_its_status_is_vague(
    name: str,
    status: int,
    error: Any,
    kind: type[EmbedStarError],
    make: Make,
    server: ScriptedProvider,
) -> None:
    server.script(fail_next=-1, status=status, error=error)
    with pytest.raises(EmbedStarError) as caught:
        make(name).embed(["x", "y"])
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None


def test_a_null_error_beside_vectors_is_none(make: Make, server: ScriptedProvider) -> None:
    vector = [float(value) for value in vector_for("x", DIMENSIONS)]
    body = {"data": [{"index": 0, "embedding": vector}], "error": None, "code": None}
    server.script(fail_next=-1, status=200, error=body)
    vectors = make("openai").embed(["x"]).vectors
    np.testing.assert_array_equal(vectors[0], vector_for("x", DIMENSIONS))


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize(
    ("headers", "more", "seconds"),
    [
        ({"retry-after": "7"}, {}, 7.0),
        ({"retry-after-ms": "1500"}, {}, 1.5),
        ({"x-ratelimit-reset-requests": "6m0s"}, {}, 360.0),
        ({"x-ratelimit-reset-tokens": "120ms", "retry-after": "1"}, {}, 1.0),
        ({"x-ratelimit-reset-tokens": "1.5s"}, {}, 1.5),
        ({}, {"details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}, 34.0),
        ({"retry-after": "60"}, {"details": [{"retryDelay": "34s"}]}, 60.0),
        ({"x-ratelimit-reset": "99999999999"}, {}, 3600.0),
        ({}, {}, None),
    ],
)
def test_the_wait_is_found_in_every_header_and_body_of_a_429(
    name: str,
    status: int,
    headers: dict[str, str],
    more: dict[str, Any],
    seconds: float | None,
    make: Make,
    server: ScriptedProvider,
) -> None:
    error = error_of("slow down", code=429, **more)
    server.script(fail_next=1, status=status, error=error, headers=headers)
    with pytest.raises(ProviderThrottled) as caught:
        make(name).embed(["x"])
    assert caught.value.retry_after_s == seconds


def test_a_503_is_an_outage_whatever_it_says_of_waiting(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    """The breaker waits for it: as a 429, each end of a wait would let the whole fleet call."""
    server.script(fail_next=1, status=503, headers={"retry-after": "9"})
    with pytest.raises(ProviderUnavailable, match="HTTP 503") as outage:
        make(name).embed(["x"])
    assert type(outage.value) is ProviderUnavailable


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, "<html><title>Attention Required! | Cloudflare</title></html>", "in front of"),
        (403, error_of("no", code="unsupported_country_region_territory"), "the country"),
        (501, error_of("Start it with `--embeddings`"), "llama.cpp: --embeddings"),
        (407, "<html>", "the proxy asks for a user and a password"),
    ],
)
def test_who_refused_is_named(
    name: str, status: int, error: Any, words: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(fail_next=-1, status=status, error=error)
    with pytest.raises((ProviderAuthError, ProviderConfigError), match=words) as caught:
        make(name).embed(["x"])
    assert "API_KEY" not in str(caught.value)
