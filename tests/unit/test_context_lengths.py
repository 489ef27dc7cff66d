"""Where texts are cut, by the model's name as people write it."""

from __future__ import annotations

import pytest

from embed_star.providers.context_lengths import text_tokens


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("text-embedding-3-small", 8000),
        ("nomic-embed-text", 2048),
        ("nomic-embed-text:latest", 2048),
        ("nomic-embed-text-v1.5", 2048),
        ("mixedbread-ai/mxbai-embed-large-v1", 512),
        ("mxbai-embed-large:335m-v1-fp16", 512),
        ("BAAI/bge-large-en-v1.5", 512),
        ("bge-m3", 8000),
        ("bge-m3:567m", 8000),
        ("all-minilm", 256),
        ("all-minilm-l6-v2-of-somebody", 8000),
        ("intfloat/multilingual-e5-large-instruct", 512),
        ("wordllama-l2-supercat", 8000),
        ("of-nobody", 8000),
        ("", 8000),
    ],
)
def test_a_text_is_as_long_as_the_model_reads_or_as_the_setting_says(
    model: str, tokens: int
) -> None:
    assert text_tokens(model, 8000) == tokens
    assert text_tokens(model, 100) == 100
