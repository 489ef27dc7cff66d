"""Providers over HTTP: what they send, and what they read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from embed_star.errors import ConfigError, InputRejected, ProviderAuthError, ProviderProtocolError
from embed_star.providers.roles import Role
from tests.contract.providers.conftest import DIMENSIONS, KEY, OPENAI_LIKE, Make
from tests.support.scripted_provider import ScriptedProvider, vector_for


def test_the_servers_own_vectors_arrive(name: str, make: Make, server: ScriptedProvider) -> None:
    texts = ["a", "b", "c"]
    answer = make(name).embed(texts)
    expected = [vector_for(text, DIMENSIONS) for text in texts]
    np.testing.assert_array_equal(answer.vectors, np.array(expected))
    (entry,) = server.ledger()
    assert entry["texts"] == texts
    assert answer.tokens == 3


def test_connections_are_kept_and_shared(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(latency_ms=30)
    provider = make(name)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            list(pool.map(lambda text: provider.embed([text]), "abcd"))
    stats = server.stats()
    assert (stats["calls"], stats["texts"], stats["concurrent"]) == (12, 12, 0)
    assert 2 <= stats["max_concurrent"] <= 4
    assert stats["connections"] <= 4


def test_openai_asks_for_base64_and_together_does_not(make: Make, server: ScriptedProvider) -> None:
    make("openai").embed(["x"])
    make("together").embed(["x"])
    make("ollama").embed(["x"])
    options = [entry["options"] for entry in server.ledger()]
    assert options == [{"encoding_format": "base64"}, {}, {"truncate": True}]


def test_a_server_may_ignore_base64(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="ignore")
    vectors = make("openai").embed(["x"]).vectors
    np.testing.assert_array_equal(vectors[0], vector_for("x", DIMENSIONS))


def test_a_server_that_refuses_base64_is_asked_once(make: Make, server: ScriptedProvider) -> None:
    server.script(encoding_format="refuse")
    provider = make("openai")
    for text in "xyz":
        vectors = provider.embed([text]).vectors
        np.testing.assert_array_equal(vectors[0], vector_for(text, DIMENSIONS))
    assert [entry["status"] for entry in server.ledger()] == [400, 200, 200, 200]


def test_a_refused_text_is_asked_twice_only_until_base64_has_worked(
    make: Make, server: ScriptedProvider
) -> None:
    server.script(poison="bad")
    provider = make("openai")
    for text in ("bad", "fine", "bad"):
        if text == "bad":
            with pytest.raises(InputRejected):
                provider.embed([text])
        else:
            provider.embed([text])
    formats = [entry["options"].get("encoding_format") for entry in server.ledger()]
    assert formats == ["base64", None, "base64", "base64"]


@pytest.mark.parametrize("name", OPENAI_LIKE)
def test_shorter_vectors_are_asked_for_where_the_model_has_them(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    model = "text-embedding-3-small"
    make(name, embedding_model=model, embedding_dimensions=256).embed(["x"])
    server.script(dimensions=1536)
    make(name, embedding_model=model, embedding_dimensions=1536).embed(["x"])
    options = [entry["options"].get("dimensions") for entry in server.ledger()]
    assert options == [256, None]


def test_longer_vectors_than_the_model_has_are_refused_at_once(make: Make) -> None:
    with pytest.raises(ConfigError, match="EMBEDDING_DIMENSIONS must be at most 1536"):
        make("openai", embedding_model="text-embedding-3-small", embedding_dimensions=1537)


@pytest.mark.parametrize("name", OPENAI_LIKE)
def test_vectors_are_matched_by_index(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(shuffle=True)
    texts = ["a", "b", "c", "d", "e"]
    expected = [vector_for(text, DIMENSIONS) for text in texts]
    np.testing.assert_array_equal(make(name).embed(texts).vectors, np.array(expected))


@pytest.mark.parametrize("indexes", ["none", "null", "float", "no_zero"])
@pytest.mark.parametrize("name", OPENAI_LIKE)
def test_the_position_counts_where_an_index_is_left_out(
    name: str, indexes: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(indexes=indexes)
    texts = ["a", "b", "c"]
    expected = [vector_for(text, DIMENSIONS) for text in texts]
    np.testing.assert_array_equal(make(name).embed(texts).vectors, np.array(expected))


@pytest.mark.parametrize("name", OPENAI_LIKE)
def test_a_zero_that_is_left_out_is_found_in_any_order(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(indexes="no_zero", shuffle=True)
    texts = ["a", "b", "c", "d", "e"]
    expected = [vector_for(text, DIMENSIONS) for text in texts]
    np.testing.assert_array_equal(make(name).embed(texts).vectors, np.array(expected))


@pytest.mark.parametrize("name", OPENAI_LIKE)
def test_equal_indexes_are_no_answer(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(indexes="same")
    with pytest.raises(ProviderProtocolError, match="indexes are not 0 to 1, each once"):
        make(name).embed(["a", "b"])


def test_a_login_in_the_url_is_used_and_never_shown(make: Make, server: ScriptedProvider) -> None:
    url = server.url.replace("://", "://user:pass-canary@")
    provider = make("ollama", url)
    assert provider.embed(["x"]).vectors.shape == (1, DIMENSIONS)
    server.script(fail_next=1, status=401)
    with pytest.raises(ProviderAuthError) as caught:
        provider.embed(["x"])
    assert "pass-canary" not in str(caught.value)


def test_a_netrc_does_not_replace_the_key(
    make: Make, server: ScriptedProvider, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(auth=KEY)
    assert make("openai").embed(["x"]).vectors.shape == (1, DIMENSIONS)


@pytest.mark.parametrize(
    ("model", "role", "before"),
    [
        ("nomic-embed-text", Role.DOCUMENT, "search_document: "),
        ("nomic-embed-text", Role.QUERY, "search_query: "),
        ("intfloat/e5-base-v2", Role.DOCUMENT, "passage: "),
        ("intfloat/e5-base-v2", Role.QUERY, "query: "),
        ("bge-base-en", Role.DOCUMENT, ""),
        ("bge-base-en", Role.QUERY, "Represent this sentence for searching relevant passages: "),
        ("test-model", Role.QUERY, ""),
    ],
)
def test_what_the_model_wants_stands_before_each_text(
    name: str, model: str, role: Role, before: str, make: Make, server: ScriptedProvider
) -> None:
    texts = ["one", "two"]
    found = make(name, embedding_model=model).embed(texts, role).vectors
    expected = [vector_for(before + text, DIMENSIONS) for text in texts]
    np.testing.assert_array_equal(found, np.array(expected))
