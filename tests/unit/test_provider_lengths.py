"""What of a refusal is read as too long, as too many texts, and as a limit over time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    InputTooLong,
    ProviderThrottled,
    ProviderUnavailable,
)
from embed_star.providers.error_responses import Endpoint, error_for
from embed_star.providers.http.error_bodies import Refusal

ENDPOINT = Endpoint("openai", "http://llm.example/v1", "OPENAI_BASE_URL", "bge-m3")


def refused(status: int, body: Any) -> EmbedStarError:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    refusal = Refusal.of(status, data) if status != 200 else Refusal.inside(json.loads(data))
    assert refusal is not None
    return error_for(refusal, ENDPOINT)


def openai_error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


TOO_LONG: list[tuple[str, int, Any]] = [
    (
        "llama.cpp",
        500,
        openai_error(
            "input (992 tokens) is too large to process. increase the physical batch size "
            "(current batch size: 512)",
            type="server_error",
            code=500,
        ),
    ),
    (
        "llama.cpp, older",
        500,
        {"error": {"code": 500, "message": "input is too large to process. increase the physical"}},
    ),
    (
        "llama.cpp, context",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size. try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 1407,
                "n_ctx": 256,
            }
        },
    ),
    ("llama.cpp, type alone", 500, {"error": {"type": "exceed_context_size_error"}}),
    (
        "llama.cpp, slots",
        500,
        {"error": {"message": "input is larger than the max context size. skipping"}},
    ),
    (
        "llama-box",
        500,
        {"error": "decoding exceeds the available context size. try increasing the context size."},
    ),
    (
        "vLLM",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 8192 tokens. However, you requested "
            "9731 tokens in the input for embedding generation. Please reduce the length.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    (
        "vLLM behind LiteLLM",
        500,
        openai_error(
            "litellm.BadRequestError: OpenAIException - Error code: 400 - {'message': \"This "
            "model's maximum context length is 512 tokens. However, you requested 700 tokens"
        ),
    ),
    (
        "LiteLLM",
        400,
        openai_error("litellm.ContextWindowExceededError: ContextWindowExceededError: hosted_vllm"),
    ),
    (
        "OpenAI",
        400,
        openai_error("Invalid 'input': maximum context length is 8192 tokens.", code=None),
    ),
    (
        "OpenAI, of a batch",
        400,
        openai_error(
            "Requested 416735 tokens, max 300000 tokens per request",
            type="max_tokens_per_request",
            code="max_tokens_per_request",
        ),
    ),
    (
        "OpenAI, by its code",
        400,
        openai_error("no", code="context_length_exceeded"),
    ),
    (
        "Azure",
        400,
        openai_error("This model's maximum context length is 8192 tokens, however you requested"),
    ),
    ("TEI", 413, {"error": "Input validation error: `inputs` must have less than 512 tokens."}),
    (
        "TEI, OpenAI's way",
        413,
        {
            "message": "Input validation error: `inputs` must have less than 512 tokens. (700)",
            "code": 413,
            "type": "Validation",
        },
    ),
    ("SiliconFlow", 413, {"code": 20042, "message": "input must have less than 512 tokens"}),
    ("Ollama", 400, {"error": "the input length exceeds the context length"}),
    ("Ollama, older", 500, {"error": "input length exceeds maximum context length"}),
    ("Ollama, via OpenAI's way", 400, openai_error("input length exceeds the context length")),
    ("Cohere", 400, {"message": "too many tokens: total number of tokens in the text is 9000"}),
    ("Mistral", 400, {"object": "error", "message": "Too many tokens in batch. Max is 16384"}),
    (
        "Gemini",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (9000) exceeds the maximum number of tokens "
                    "allowed (2048).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    ("Bedrock", 400, {"message": "Input is too long for requested model."}),
    (
        "Bedrock, Cohere",
        400,
        {"message": "Malformed input request: #/texts/0: expected maxLength: 2048, actual: 19882"},
    ),
    (
        "watsonx",
        400,
        {
            "errors": [
                {
                    "code": "invalid_input_argument",
                    "message": "Invalid input argument for Model 'ibm/slate': Token sequence "
                    "length is longer than the specified maximum sequence length (1336 > 512).",
                }
            ],
            "status_code": 400,
        },
    ),
    (
        "Voyage",
        400,
        {
            "detail": "Request to model 'voyage-2' failed. The max allowed tokens per submitted "
            "batch is 120000. Your batch has 121138 tokens after truncation."
        },
    ),
    (
        "NIM",
        400,
        {"object": "error", "message": "Input length 812 exceeds maximum allowed token size 512"},
    ),
    ("DashScope", 400, openai_error("<400> InvalidParameter: Range of input length should be [1,")),
    ("Together", 422, openai_error("Input is too long: 9000 tokens, and this model takes 8192.")),
    (
        "LM Studio",
        400,
        {"error": "Trying to keep the first 900 tokens, but the context has only 512"},
    ),
    (
        "Infinity",
        422,
        {
            "detail": [
                {
                    "type": "string_too_long",
                    "loc": ["body", "input", 0],
                    "msg": "String should have at most 122880 characters",
                    "input": "a text",
                }
            ]
        },
    ),
    ("SGLang", 400, openai_error("The input (9000 tokens) is longer than the model's context")),
    ("plain text", 413, "input is too long: 9000 tokens, the limit is 8192"),
    ("plain text of a 500", 500, "Internal error: maximum sequence length of 512 exceeded"),
    ("Zhipu", 400, {"error": {"code": "1210", "message": "输入内容长度超过限制"}}),
    (
        "PyTorch",
        400,
        {"error": "The size of tensor a (600) must match the size of tensor b (512)"},
    ),
    ("Hugging Face", 422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 512"}),
    (
        "Gemini, bytes",
        400,
        {"error": {"code": 400, "message": "Request payload size exceeds the limit: 36000 bytes."}},
    ),
    (
        "Vertex",
        400,
        {"error": {"message": "the input token count is 25000 but the model supports up to 20000"}},
    ),
    ("Workers AI", 400, {"errors": [{"message": "AiError: Input exceeds maximum length"}]}),
    (
        "Qianfan, in a success",
        200,
        {"error_code": 336003, "error_msg": "the max length of each input must be less than 1001"},
    ),
]


@pytest.mark.parametrize(
    ("status", "body"), [row[1:] for row in TOO_LONG], ids=[row[0] for row in TOO_LONG]
)
def test_a_text_that_is_too_long_is_told_from_other_refusals(status: int, body: Any) -> None:
    error = refused(status, body)
    assert type(error) is InputTooLong
    assert "TEXT_MAX_TOKENS" in str(error)


@pytest.mark.parametrize("status", [400, 413, 422, 429, 500, 503])
def test_too_long_is_read_whatever_the_status(status: int) -> None:
    message = "This model's maximum context length is 8192 tokens. However, you requested 9000"
    assert type(refused(status, openai_error(message))) is InputTooLong


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"error": "batch size 50 > maximum allowed batch size 32"}),
        (413, {"code": 20042, "message": "input batch size 136 > maximum allowed batch size 64"}),
        (400, openai_error("batch size is invalid, it should not be larger than 10.: input")),
        (400, openai_error("'input' array too long. Expected an array with maximum length 2048")),
        (400, {"message": "invalid request: total number of texts must be at most 96"}),
        (400, {"detail": "The batch size limit is 128. Your batch size is 200."}),
        (400, {"error": {"message": "* at most 100 requests can be in one batch"}}),
        (400, {"error": {"message": "250 instance(s) is allowed per prediction. Actual: 300"}}),
        (400, {"message": "Too many inputs in request, split into more batches."}),
        (422, {"detail": [{"msg": "List should have at most 2048 items after validation"}]}),
    ],
)
def test_too_many_texts_are_no_text_that_is_too_long(status: int, body: Any) -> None:
    error = refused(status, body)
    assert type(error) is InputRejected
    assert error.too_many
    assert "BATCH_SIZE" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "limit"),
    [
        (
            429,
            openai_error(
                "Request too large for text-embedding-3-small in organization org-x on tokens per "
                "min (TPM): Limit 1000, Requested 1500. The input must be reduced in order to run.",
                type="tokens",
                code="rate_limit_exceeded",
            ),
            "1000 tokens",
        ),
        (
            413,
            openai_error(
                "Request too large for model `x` in organization `o` service tier `on_demand` on "
                "tokens per minute (TPM): Limit 6000, Requested 12328, please reduce your message",
                type="tokens",
                code="rate_limit_exceeded",
            ),
            "6000 tokens",
        ),
        (429, {"error": "Limit: 30,000 / min. Requested: 36,055."}, "30000 tokens"),
        (429, openai_error("Request too large on tokens per min (TPM)", type="tokens"), ""),
        (
            429,
            openai_error(
                "litellm.RateLimitError: RateLimitError: OpenAIException - Request too large for x "
                "on tokens per min (TPM): Limit 30000, Requested 36055."
            ),
            "30000 tokens",
        ),
        (429, "Request too large: limit 1000, used 0, requested 1500", "1000 tokens"),
    ],
)
def test_a_request_beyond_the_limit_is_split(status: int, body: Any, limit: str) -> None:
    error = refused(status, body)
    assert type(error) is InputTooLong
    assert "BATCH_MAX_TOKENS" in str(error)
    assert limit in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached for x on tokens per min (TPM): Limit 6000, Used 5034, Requested 1443.",
        "Rate limit reached on tokens per min. Limit: 1000000 / min. Current: 1006789 / min.",
        "Request too large right now: Limit 6000, Used 5900, Requested 6000",
        "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier.",
        "This request would exceed your rate limit of 20,000 input tokens per minute",
        "Quota exceeded for quota metric 'Embed requests' and limit 'requests per minute'",
        "Too many tokens per day, please wait before trying again.",
        "You exceeded your current token quota",
        "Too many requests",
        "",
    ],
)
def test_a_limit_over_time_stays_a_429(message: str) -> None:
    error = refused(429, openai_error(message, type="tokens", code="rate_limit_exceeded"))
    assert type(error) is ProviderThrottled


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, openai_error("CUDA error: device-side assert triggered")),
        (500, openai_error("internal server error")),
        (502, "<html>request entity too large: 9000 tokens exceed the limit</html>"),
        (503, openai_error("Loading model")),
        (503, openai_error("The model is overloaded. Please try again later.")),
    ],
)
def test_a_server_that_fails_says_nothing_of_length(status: int, body: Any) -> None:
    assert type(refused(status, body)) is ProviderUnavailable


@pytest.mark.parametrize(
    "body",
    [
        openai_error("Budget has been exceeded! Current cost: 10.1, Max budget: 10.0"),
        openai_error("missing required field: input_type"),
        openai_error("encoding_format is not supported"),
        openai_error("the model has crashed without additional information"),
        openai_error("The security token included in the request is expired"),
        openai_error("This model supports no embeddings"),
    ],
)
def test_other_refusals_say_nothing_of_length(body: Any) -> None:
    assert type(refused(400, body)) is InputRejected
