"""Dialects of OpenAI's API: what a server does not understand is found out, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embed_star.errors import (
    ConfigError,
    EmbedStarError,
    InputRejected,
    ProviderConfigError,
    ProviderUnavailable,
)
from tests.contract.providers.conftest import DIMENSIONS, SHORTENING, Make
from tests.support.scripted_provider import ScriptedProvider, vector_for

TEXTS = ["a", "b", "c"]
VECTORS = np.array([vector_for(text, DIMENSIONS) for text in TEXTS])


def formats(server: ScriptedProvider) -> list[str | None]:
    """The `encoding_format` of each request."""
    return [entry["options"].get("encoding_format") for entry in server.ledger()]


@pytest.mark.parametrize(
    "refusal",
    [
        [400, {"error": {"message": "unknown field", "param": "encoding_format"}}],
        [400, {"object": "error", "message": "base64 encoding is not currently supported"}],
        [400, {"detail": "extra fields not permitted: ['encoding_format']"}],
        [400, {"error": "bad request"}],
        [422, {"detail": [{"loc": ["body", "encoding_format"], "msg": "extra", "input": "x"}]}],
        [422, "unprocessable entity"],
        [415, "no"],
        [404, {"error": "nothing like it"}],
        [500, {"error": {"message": "not supported", "type": "server_error"}}],
        [500, "Internal Server Error"],
        [501, {"error": "not implemented"}],
        [200, {"error": {"message": "unsupported encoding_format", "code": 400}}],
        [200, {"error": "unsupported"}],
    ],
)
def test_a_server_that_refuses_base64_is_asked_without_it(
    refusal: list[Any], make: Make, server: ScriptedProvider
) -> None:
    server.script(encoding_format="refuse", refusal=refusal)
    provider = make("openai")
    for _ in range(2):
        np.testing.assert_array_equal(provider.embed(TEXTS).vectors, VECTORS)
    assert formats(server) == ["base64", None, None]


@pytest.mark.parametrize("texts", [TEXTS, ["a"]], ids=["several", "one"])
@pytest.mark.parametrize("how", ["empty_data", "empty_vectors", "nested", "garbage"])
def test_a_server_that_stumbles_over_base64_is_asked_without_it(
    how: str, texts: list[str], make: Make, server: ScriptedProvider
) -> None:
    server.script(encoding_format=how)
    provider = make("openai")
    for _ in range(2):
        np.testing.assert_array_equal(provider.embed(texts).vectors, VECTORS[: len(texts)])
    assert formats(server) == ["base64", None, None]


def test_doubles_are_read_as_they_are(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="double", dimensions=64)
    provider = make("openai", embedding_dimensions=64)
    np.testing.assert_array_equal(provider.embed(["x"]).vectors[0], vector_for("x", 64))
    assert formats(server) == ["base64"], "it was paid for"


def test_once_base64_has_worked_it_is_never_in_doubt(make: Make, server: ScriptedProvider) -> None:
    provider = make("openai")
    provider.embed(TEXTS)
    for script in ({"status": 500}, {"status": 400}, {"status": 501}):
        server.script(fail_next=1, **script)
        with pytest.raises(EmbedStarError):
            provider.embed(TEXTS)
    assert formats(server) == ["base64"] * 4


def test_an_outage_does_not_double_the_calls(make: Make, server: ScriptedProvider) -> None:
    provider = make("openai")
    server.script(fail_next=-1, status=500)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            provider.embed(TEXTS)
    assert formats(server) == ["base64", None, "base64", "base64"]
    server.script(fail_next=0)
    provider.embed(TEXTS)
    assert formats(server)[4:] == ["base64"]


@pytest.mark.parametrize(
    "script",
    [
        *({"fail_next": -1, "status": status} for status in (401, 402, 403, 429, 502, 503, 504)),
        {
            "fail_next": -1,
            "status": 400,
            "error": {"error": "the input exceeds the context length"},
        },
        {"fault": "reset"},
        {"fault": "truncated"},
        {"fault": "hang"},
    ],
)
def test_what_is_no_matter_of_the_dialect_is_asked_once(
    script: dict[str, Any], make: Make, server: ScriptedProvider
) -> None:
    server.script(**script)
    with pytest.raises(EmbedStarError):
        make("openai", provider_total_timeout_s=0.45).embed(TEXTS)  # a silence of 0.3 s
    assert formats(server) == ["base64"]


def test_both_calls_share_one_deadline(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="refuse", latency_ms=300)
    with pytest.raises(ProviderUnavailable, match="PROVIDER_TOTAL_TIMEOUT_S"):
        make("openai", provider_total_timeout_s=0.45).embed(TEXTS)


@pytest.mark.parametrize(
    ("encoding", "expected"), [("auto", "base64"), ("base64", "base64"), ("float", None)]
)
def test_the_setting_decides_which_encoding_is_asked_for(
    encoding: str, expected: str | None, make: Make, server: ScriptedProvider
) -> None:
    make("openai", openai_encoding_format=encoding).embed(TEXTS)
    assert formats(server) == [expected]


def test_base64_that_is_set_is_not_in_doubt(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="refuse")
    with pytest.raises(InputRejected):
        make("openai", openai_encoding_format="base64").embed(TEXTS)
    assert formats(server) == ["base64"]


def test_a_setting_that_means_nothing_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="OPENAI_ENCODING_FORMAT"):
        make("openai", openai_encoding_format="float16")


def dimensions(server: ScriptedProvider) -> list[int | None]:
    """The `dimensions` of each request."""
    return [entry["options"].get("dimensions") for entry in server.ledger()]


@pytest.mark.parametrize("name", SHORTENING)
def test_shorter_vectors_are_asked_for_under_any_name(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(dimensions=16, shortens=True)
    provider = make(name, embedding_model="my-deployment")
    for _ in range(2):
        np.testing.assert_array_equal(provider.embed(TEXTS).vectors, VECTORS)
    assert dimensions(server) == [None, DIMENSIONS, DIMENSIONS]


def test_a_server_of_neither_dialect_is_understood(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="refuse", dimensions=16, shortens=True)
    provider = make("openai")
    for _ in range(2):
        np.testing.assert_array_equal(provider.embed(TEXTS).vectors, VECTORS)
    assert formats(server) == ["base64", None, None, None]
    assert dimensions(server) == [None, None, DIMENSIONS, DIMENSIONS]


@pytest.mark.parametrize("name", SHORTENING)
def test_a_model_that_is_not_shortened_is_asked_once(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(dimensions=16, shortens=False)
    provider = make(name)
    for _ in range(2):
        with pytest.raises(ProviderConfigError, match="set EMBEDDING_DIMENSIONS=16 or another"):
            provider.embed(TEXTS)
    assert dimensions(server) == [None, DIMENSIONS, None]


def test_vectors_that_grow_later_are_another_models(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    provider = make(name)
    provider.embed(TEXTS)
    server.script(dimensions=16, shortens=True)
    with pytest.raises(ProviderConfigError, match="EMBEDDING_DIMENSIONS=16"):
        provider.embed(TEXTS)
    assert dimensions(server) == [None, None]
