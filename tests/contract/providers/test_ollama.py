"""Ollama's words for what went wrong, and its names of models."""

from __future__ import annotations

import pytest

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputTooLong,
    ProviderConfigError,
    ProviderUnavailable,
)
from tests.contract.providers.conftest import DIMENSIONS, Make
from tests.support.scripted_provider import ScriptedProvider


@pytest.mark.parametrize(
    ("status", "error", "kind", "words"),
    [
        (404, 'model "test-model" not found, try pulling it first', ProviderConfigError, "pull"),
        (404, "model 'test-model' not found", ProviderConfigError, "`ollama pull test-model`"),
        (400, '"test-model" does not support embeddings', ProviderConfigError, "EMBEDDING_MODEL"),
        (501, "this model does not support embeddings", ProviderConfigError, "EMBEDDING_MODEL"),
        (400, "the input length exceeds the context length", InputTooLong, "TEXT_MAX_TOKENS"),
        (500, "the input length exceeds the context length", InputTooLong, "TEXT_MAX_TOKENS"),
        (400, "embedding contains NaN or Inf values", InputRejected, "one of these texts"),
        (
            500,
            "failed to encode response: json: unsupported value: NaN",
            InputRejected,
            "one of these texts",
        ),
        (
            400,
            'do embedding request: Post "http://127.0.0.1:1/embedding": EOF',
            ProviderUnavailable,
            "lost the process",
        ),
        (400, "invalid input type", InputRejected, "HTTP 400"),
        (500, "model requires more system memory", ProviderUnavailable, "HTTP 500"),
    ],
)
def test_what_ollama_says_decides_which_error_it_is(
    status: int,
    error: str,
    kind: type[EmbedStarError],
    words: str,
    make: Make,
    server: ScriptedProvider,
) -> None:
    server.script(fail_next=1, status=status, error={"error": error})
    with pytest.raises(EmbedStarError, match=words) as caught:
        make("ollama").embed(["x"])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("asked", "answered"), [("m:latest", "m"), ("m", "m:latest"), ("hf.co/a/m", "hf.co/a/m")]
)
def test_ollama_may_answer_with_or_without_a_tag(
    asked: str, answered: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(model=answered)
    assert make("ollama", embedding_model=asked).embed(["x"]).vectors.shape == (1, DIMENSIONS)
