"""What is known of providers and models, by the names as people write them."""

from __future__ import annotations

import pytest

from embed_star.providers.catalogue import (
    PREFIX_TOKENS,
    PROVIDERS,
    ProviderFacts,
    bare_name,
    find_model,
    prefixes,
    shortened_from,
    text_tokens,
)
from embed_star.providers.roles import Role


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("text-embedding-3-small", 8000),
        ("nomic-embed-text", 2032),  # 16 are left for the prefix
        ("nomic-embed-text:latest", 2032),
        ("nomic-embed-text-v1.5", 2032),
        ("intfloat/e5-base-v2", 496),
        ("mixedbread-ai/mxbai-embed-large-v1", 512),
        ("mxbai-embed-large:335m-v1-fp16", 512),
        ("BAAI/bge-large-en-v1.5", 512),
        ("bge-m3", 8000),
        ("bge-m3:567m", 8000),
        ("all-minilm", 256),
        ("all-minilm-l6-v2-of-somebody", 8000),
        ("intfloat/multilingual-e5-large-instruct", 512),
        ("wordllama-l2-supercat", 8000),
        ("all-minilm-l6-v2-int8", 256),
        ("of-nobody", 8000),
        ("", 8000),
    ],
)
def test_a_text_is_as_long_as_the_model_reads_or_as_the_setting_says(
    model: str, tokens: int
) -> None:
    assert text_tokens(model, 8000) == tokens
    assert text_tokens(model, 100) == 100


NOMIC = ("search_document: ", "search_query: ")
E5 = ("passage: ", "query: ")
REPRESENT = ("", "Represent this sentence for searching relevant passages: ")
GEMMA = ("title: none | text: ", "task: search result | query: ")
NONE = ("", "")


@pytest.mark.parametrize(
    ("model", "before"),
    [
        ("nomic-embed-text", NOMIC),
        ("nomic-embed-text:v1.5", NOMIC),
        ("nomic-ai/nomic-embed-text-v1.5", NOMIC),
        ("nomic-ai/nomic-embed-text-v2-moe", NOMIC),
        ("intfloat/e5-small-v2", E5),
        ("intfloat/multilingual-e5-base", E5),
        ("BAAI/bge-small-en-v1.5", REPRESENT),
        ("mixedbread-ai/mxbai-embed-large-v1", REPRESENT),
        ("snowflake-arctic-embed:335m", REPRESENT),
        ("snowflake-arctic-embed2", ("", "query: ")),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", ("", "query: ")),
        ("embeddinggemma:300m", GEMMA),
        ("google/embeddinggemma-300m", GEMMA),
        ("bge-m3", NONE),
        ("text-embedding-3-small", NONE),
        ("all-minilm-l6-v2-int8", NONE),
        ("wordllama-l2-supercat", NONE),
        ("of-nobody", NONE),
    ],
)
def test_what_a_model_wants_before_a_text(model: str, before: tuple[str, str]) -> None:
    assert prefixes(model) == dict(zip((Role.DOCUMENT, Role.QUERY), before, strict=True))


@pytest.mark.parametrize("model", ["qwen3-embedding:0.6b", "Qwen/Qwen3-Embedding-0.6B"])
def test_a_model_that_wants_an_instruction_wants_it_for_queries_only(model: str) -> None:
    before = prefixes(model)
    assert before[Role.DOCUMENT] == ""
    assert before[Role.QUERY].startswith("Instruct: ")
    assert before[Role.QUERY].endswith("\nQuery:")


@pytest.mark.parametrize("facts", PROVIDERS.values(), ids=PROVIDERS)
class TestFacts:
    def test_of_a_provider_fit_together(self, facts: ProviderFacts) -> None:
        assert facts.default_model in ("", *facts.models)
        # Whatever is outside of the process has an address and a breaker.
        assert bool(facts.address) == (facts.breaker is not None) == (facts.name != "local")

    def test_of_its_models_fit_together(self, facts: ProviderFacts) -> None:
        for model in facts.models.values():
            assert model.name == bare_name(model.name), "this is how it is looked up"
            assert find_model(f"owner/{model.name.upper()}:latest") is model
            assert all(0 < shorter < model.dimensions for shorter in model.shorter)
            assert len(model.before_document) <= 2 * PREFIX_TOKENS, (
                "an estimate, and on the safe side"
            )
            assert bool(model.dollars_per_million_tokens) == (model.priced_on is not None)


def test_no_model_is_described_twice() -> None:
    names = [model for facts in PROVIDERS.values() for model in facts.models]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [("text-embedding-3-small", 1536), ("openai/text-embedding-3-large", 3072)],
)
def test_openai_s_third_generation_shortens_its_vectors(model: str, dimensions: int) -> None:
    assert shortened_from(model) == dimensions


@pytest.mark.parametrize("model", ["text-embedding-ada-002", "bge-m3", "of-nobody"])
def test_of_others_it_is_not_known(model: str) -> None:
    assert shortened_from(model) is None
