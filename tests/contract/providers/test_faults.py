"""Providers over HTTP: rows 22 to 31 of the table of faults, one clear error each."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderAuthError,
    ProviderConfigError,
    ProviderProtocolError,
    ProviderThrottled,
    ProviderUnavailable,
    ShuttingDown,
)
from tests.contract.providers.conftest import DIMENSIONS, KEY, Make
from tests.support.scripted_provider import ScriptedProvider, vector_for
from tests.support.servers import eventually

TEXT = "canary text of a row"


FAULT_TABLE: list[tuple[str, dict[str, Any], type[EmbedStarError], str]] = [
    ("400", {"fail_next": 1, "status": 400}, InputRejected, "BATCH_SIZE"),
    ("413", {"fail_next": 1, "status": 413}, InputRejected, "BATCH_SIZE"),
    ("422", {"fail_next": 1, "status": 422}, InputRejected, "BATCH_SIZE"),
    ("poison", {"poison": "canary"}, InputRejected, "HTTP 400"),
    ("401", {"fail_next": 1, "status": 401}, ProviderAuthError, "check "),
    ("403", {"fail_next": 1, "status": 403}, ProviderAuthError, "check "),
    ("404", {"fail_next": 1, "status": 404}, ProviderConfigError, "EMBEDDING_MODEL"),
    ("408", {"fail_next": 1, "status": 408}, ProviderUnavailable, "HTTP 408"),
    ("409", {"fail_next": 1, "status": 409}, ProviderUnavailable, "HTTP 409"),
    ("500", {"fail_next": 1, "status": 500}, ProviderUnavailable, "HTTP 500"),
    ("503", {"fail_next": 1, "status": 503}, ProviderUnavailable, "HTTP 503"),
    ("html", {"fault": "html"}, ProviderProtocolError, "not JSON (text/html)"),
    ("words", {"fault": "not_json"}, ProviderProtocolError, "not JSON"),
    ("empty object", {"fault": "empty_object"}, ProviderProtocolError, "no list of vectors"),
    ("array", {"fault": "array"}, ProviderProtocolError, "no embeddings answer"),
    ("fewer", {"count_delta": -1}, ProviderProtocolError, "1 vectors for 2 texts"),
    ("more", {"count_delta": 1}, ProviderProtocolError, "3 vectors for 2 texts"),
    ("dimensions", {"dimensions": 9}, ProviderConfigError, "EMBEDDING_DIMENSIONS=9"),
    ("redirect", {"fault": "redirect"}, ProviderConfigError, "final address"),
    ("giant", {"fault": "giant"}, ProviderProtocolError, "bytes; lower BATCH_SIZE"),
    ("endless", {"fault": "giant_chunked"}, ProviderProtocolError, "bytes; lower BATCH_SIZE"),
    ("bomb", {"fault": "gzip_bomb"}, ProviderProtocolError, "bytes; lower BATCH_SIZE"),
    ("reset", {"fault": "reset"}, ProviderUnavailable, "broke off"),
    ("crash", {"crash": "canary"}, ProviderUnavailable, "broke off"),
    ("truncated", {"fault": "truncated"}, ProviderUnavailable, "broke off"),
    ("torn JSON", {"fault": "torn_json"}, ProviderUnavailable, "broke off"),
    ("bad gzip", {"fault": "bad_gzip"}, ProviderUnavailable, "unpacked"),
]


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [row[1:] for row in FAULT_TABLE],
    ids=[row[0] for row in FAULT_TABLE],
)
def test_each_fault_is_one_clear_error(
    name: str,
    script: dict[str, Any],
    kind: type[EmbedStarError],
    words: str,
    make: Make,
    server: ScriptedProvider,
) -> None:
    provider = make(name)
    provider.embed(["before"])  # a process that knows the server's dialect by now
    server.reset()
    server.script(**script)
    with pytest.raises(EmbedStarError) as caught:
        provider.embed([TEXT, "another"])
    message = str(caught.value)
    assert type(caught.value) is kind
    assert words in message
    assert name in message
    assert KEY not in message
    assert TEXT not in message
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert len(server.ledger()) == 1, "the caller owns the retries"

    server.reset()
    again = provider.embed([TEXT, "another"]).vectors
    np.testing.assert_array_equal(again[0], vector_for(TEXT, DIMENSIONS))


def test_auth_errors_name_the_setting(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(auth="another key")
    setting = "OLLAMA_URL" if name == "ollama" else f"{name.upper()}_API_KEY"
    with pytest.raises(ProviderAuthError, match=setting):
        make(name).embed(["x"])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2", 2.0), ("Fri, 31 Dec 2100 23:59:59 GMT", 3600.0), ("-1", None), (None, None)],
)
def test_a_429_carries_the_wait_of_its_retry_after(
    name: str, header: str | None, seconds: float | None, make: Make, server: ScriptedProvider
) -> None:
    server.script(fail_next=1, status=429, retry_after=header)
    with pytest.raises(ProviderThrottled) as caught:
        make(name).embed(["x"])
    assert caught.value.retry_after_s == seconds


def test_a_rate_limit_is_throttling_with_the_wait(
    name: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(requests_per_minute=1)
    provider = make(name)
    provider.embed(["x"])
    with pytest.raises(ProviderThrottled) as caught:
        provider.embed(["x"])
    assert caught.value.retry_after_s == pytest.approx(60, abs=5)


@pytest.mark.parametrize("kind", ["nan", "infinity", "null", "string", "null_vector", "zero"])
def test_a_bad_vector_leaves_its_neighbours_alone(
    name: str, kind: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(**{kind: "canary"})
    before, bad, after = make(name).embed(["before", TEXT, "after"]).vectors
    np.testing.assert_array_equal(before, vector_for("before", DIMENSIONS))
    np.testing.assert_array_equal(after, vector_for("after", DIMENSIONS))
    assert not bad.any() if kind == "zero" else not np.isfinite(bad).all()


def test_compressed_answers_are_read(name: str, make: Make, server: ScriptedProvider) -> None:
    server.script(fault="gzip")
    vectors = make(name).embed(["x"]).vectors
    np.testing.assert_array_equal(vectors[0], vector_for("x", DIMENSIONS))


@pytest.mark.parametrize(("answered", "told"), [("other", "other"), ("a\nb", "a?b"), ("", None)])
def test_the_answer_says_which_model_it_is_of(
    name: str, answered: str, told: str | None, make: Make, server: ScriptedProvider
) -> None:
    server.script(model=answered)
    assert make(name).embed(["x"]).model == told


@pytest.mark.parametrize("spelling", ["vendor/test-model", "test-model-v2", "TEST-MODEL", ""])
def test_spellings_of_the_model_are_accepted(
    name: str, spelling: str, make: Make, server: ScriptedProvider
) -> None:
    server.script(model=spelling)
    assert make(name).embed(["x"]).vectors.shape == (1, DIMENSIONS)


def test_no_key_goes_along_a_redirect(make: Make, server: ScriptedProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/embeddings"
        server.script(fault="redirect", location=location)
        with pytest.raises(ProviderConfigError, match="OPENAI_BASE_URL"):
            make("openai").embed(["x"])
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.parametrize("fault", ["hang", "drip", "drip_headers"])
def test_a_call_that_is_aborted_ends_at_once(
    name: str, make: Make, server: ScriptedProvider, fault: str
) -> None:
    server.script(fault=fault)
    provider = make(name)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(provider.embed, [TEXT])
        eventually(lambda: server.stats()["concurrent"] == 1, "it is asked")
        provider.abort()
        assert isinstance(call.exception(timeout=1.0), ShuttingDown)
    with pytest.raises(ShuttingDown):
        provider.embed([TEXT])
    assert server.stats()["calls"] == 1
