"""Reading refusals: Retry-After, and error bodies that row texts may be echoed in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

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
from embed_star.providers.error_responses import Endpoint, error_for
from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.http.retry_after import retry_after_s

ENDPOINT = Endpoint(
    provider="openai",
    base_url="https://someone:hidden@llm.example/v1",
    url_setting="OPENAI_BASE_URL",
    model="bge-m3",
    key_setting="OPENAI_API_KEY",
)
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("99999999999999999", 3600.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e3", None),
        ("9" * 400, None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:37 GMT", 3600.0),
        ("Sun, 06 Nov 1994 09:49:47 +0100", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun, 99 Nov 1994 08:49:47 GMT", None),
        ("Sun, 06 Nov 99999 08:49:47 GMT", None),
    ],
)
def test_retry_after_is_read_and_capped(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, DATE) == seconds


def test_a_date_without_the_servers_clock_is_taken_from_ours() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after_s(value) == pytest.approx(60, abs=5)
    assert retry_after_s(value, "no date") == pytest.approx(60, abs=5)


def refused(status: int, body: Any) -> EmbedStarError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_for(Refusal.of(status, data), ENDPOINT)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {}, InputRejected, "BATCH_SIZE"),
        (413, b"", InputRejected, "BATCH_SIZE"),
        (422, {"detail": [{"loc": ["body", "input"], "msg": "bad"}]}, InputRejected, "HTTP 422"),
        (401, b"<html>", ProviderAuthError, "OPENAI_API_KEY"),
        (403, {}, ProviderAuthError, "OPENAI_API_KEY"),
        (403, b"", ProviderAuthError, "OPENAI_API_KEY"),
        (403, b"<html>Sorry, you have been blocked</html>", ProviderAuthError, "in front of"),
        (403, b"error code: 1020", ProviderAuthError, "in front of"),
        (
            403,
            {"error": {"code": "unsupported_country_region_territory"}},
            ProviderAuthError,
            "country",
        ),
        (407, b"", ProviderConfigError, "HTTP_PROXY"),
        (501, {"error": {"code": 501, "message": "no"}}, ProviderConfigError, "--embeddings"),
        (402, {}, ProviderAuthError, "no credit"),
        (429, {"error": {"code": "insufficient_quota"}}, ProviderAuthError, "no credit"),
        (429, {}, ProviderThrottled, "fewer requests"),
        (400, {"error": {"code": "invalid_api_key"}}, ProviderAuthError, "OPENAI_API_KEY"),
        (400, [{"error": {"message": "API key not valid"}}], ProviderAuthError, "HTTP 400"),
        (400, [], InputRejected, "HTTP 400"),
        (400, {"error": {"message": "API key not valid."}}, ProviderAuthError, "OPENAI_API_KEY"),
        (404, b"404 page not found", ProviderConfigError, "OPENAI_BASE_URL"),
        (405, b"", ProviderConfigError, "OPENAI_BASE_URL"),
        (404, {"message": "The model `x` does not exist."}, ProviderConfigError, "bge-m3"),
        (400, {"error": {"code": "model_not_found"}}, ProviderConfigError, "EMBEDDING_MODEL"),
        (403, {"error": {"code": "model_not_found"}}, ProviderConfigError, "EMBEDDING_MODEL"),
        (503, {"error": {"code": "model_not_available"}}, ProviderConfigError, "EMBEDDING_MODEL"),
        (400, {"error": {"param": "model"}}, ProviderConfigError, "EMBEDDING_MODEL"),
        (
            400,
            {"error": {"message": "Unable to access non-serverless model x."}},
            ProviderConfigError,
            "EMBEDDING_MODEL",
        ),
        (301, b"", ProviderConfigError, "OPENAI_BASE_URL"),
        (307, b"", ProviderConfigError, "OPENAI_BASE_URL"),
        (408, {}, ProviderUnavailable, "HTTP 408"),
        (409, {}, ProviderUnavailable, "HTTP 409"),
        (500, {}, ProviderUnavailable, "HTTP 500"),
        (503, b"\xff\xfe", ProviderUnavailable, "HTTP 503"),
        (599, b"[" * 100_000, ProviderUnavailable, "HTTP 599"),
        (418, {"error": None}, ProviderUnavailable, "HTTP 418"),
    ],
)
def test_status_and_body_decide_which_error_it_is(
    status: int, body: Any, kind: type, words: str
) -> None:
    error = refused(status, body)
    assert type(error) is kind
    assert words in str(error)
    assert "hidden" not in str(error)


@pytest.mark.parametrize(
    "echo",
    [
        "input 3 is too long: 'Invalid API key'",
        "bad text: The model does not exist",
        "cannot embed «incorrect api key provided»",
    ],
)
def test_a_rows_text_echoed_in_an_error_blames_neither_key_nor_model(echo: str) -> None:
    error = refused(400, {"error": {"message": echo, "type": "BadRequestError"}})
    assert type(error) is InputRejected
    assert echo not in str(error)


def test_a_refusals_words_are_not_in_its_repr() -> None:
    refusal = Refusal.of(400, json.dumps({"error": "text of a row"}).encode())
    assert refusal.message == "text of a row"
    assert "text of a row" not in repr(refusal)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("This model's maximum context length is 8192 tokens, however you requested 9000", ""),
        ("the input length exceeds the context length", ""),
        ("`inputs` must have less than 512 tokens. Given: 700", ""),
        ("too much", "context_length_exceeded"),
    ],
)
def test_a_text_that_is_too_long_names_the_setting(message: str, code: str) -> None:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    error = error_for(Refusal.of(400, body), ENDPOINT)
    assert isinstance(error, InputTooLong)
    assert "TEXT_MAX_TOKENS" in str(error)
