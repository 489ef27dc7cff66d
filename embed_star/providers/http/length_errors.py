"""Tells by words and codes whether a refusal means that a text or the request is too long.

Tried wordings: OpenAI, Azure, Groq, vLLM, SGLang, llama.cpp, LM Studio, Ollama, TEI, Infinity,
LiteLLM, Together, Mistral, Cohere, Voyage, Jina, Gemini, Bedrock, watsonx, DashScope,
SiliconFlow. An echo of a row's text may mislead them. That only affects the failure reason of
a row that is set aside, after it stood alone and the provider took another text.
"""

from __future__ import annotations

import re

from embed_star.providers.http.error_bodies import Refusal

_TOO_LONG_CODE = re.compile(
    r"context_?(length|size|window)|(input|text|string|prompt|request|payload)_too_(long|large)"
    r"|string_above_max_length|max_tokens_per_request|tokens_limit_reached"
)
_CONTEXT = r"(context|sequence)[ _-]?(length|size|window)"
_MORE = (
    r"(exceed\w*|longer|larger|bigger|greater|more|fewer|less|at most|maximum|max|limit\w*|over)"
)
_TOO_MUCH = r"too[ _](long|large|big|many)"
_INPUT = r"(inputs?|texts?|prompts?|strings?|contents?|documents?|sequences?|request|payload)\b"
_TOO_LONG = re.compile(
    rf"{_MORE}\b.{{0,60}}\b{_CONTEXT}|{_CONTEXT}.{{0,60}}\b{_MORE}\b|exceed\w* n_ctx"
    r"|\btokens?\b.{0,120}\bcontext\b|\bcontext\b.{0,120}\btokens?\b"
    r"|context.?window.?exceeded|kv (cache|size)\b"
    rf"|({_TOO_MUCH}|\b{_MORE}\b).{{0,80}}\btokens?\b|\btokens?\b.{{0,80}}({_TOO_MUCH}|\b{_MORE}\b)"
    rf"|\b{_INPUT}.{{0,60}}\b({_TOO_MUCH}|larger than|longer than)"
    rf"|\b{_INPUT}.{{0,40}}\b(length|characters?)\b.{{0,40}}({_MORE}\b|should be|must be)"
    r"|(maximum|max|exceeds?)\b.{0,30}\b(input|text|sequence|prompt|string) ?length"
    rf"|\b{_INPUT}( size)? exceeds? (the )?(max\w*|limit|allowed)"
    rf"|\b(length|size) of (each |the |an? |every |one )?{_INPUT}|\btokens?\b.{{0,80}}(<=|up to)"
    r"|size of tensor a .{0,20}must match"  # PyTorch, of a model with a table of positions
    r"|\bmaxlength\b|at most \d+ (characters|tokens|bytes)"
    r"|过长|超[过出].{0,30}(长度|token)|(长度|token).{0,30}超",
    re.IGNORECASE,
)
_TOO_MANY_TEXTS = re.compile(
    r"batch size\b.{0,40}(>|invalid|limit|maximum|should|must|exceed|too)"
    r"|(maximum|max|allowed|limit)\b.{0,20}\bbatch size"
    r"|\barrays?\b.{0,20}too long|array_above_max_length"
    r"|at most \d+ (items|requests|texts|inputs|elements|instances|strings|documents|embeddings)"
    r"|number of (texts|inputs|items|strings|documents|instances|elements|embeddings)"
    r"|too many (texts|inputs|items|strings|documents|instances|elements|embeddings)"
    r"|instances?(\(s\))? (is|are) allowed",
    re.IGNORECASE,
)
_OF_TIME = re.compile(
    # A limit over time, which waiting cures, and what a key or an account may do
    r"\b(rate|quota|tp[md]|rpm|minute|hour|day|try again in|expired?|api key|authenti\w+)\b",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\blimit\b\W{0,4}(\d[\d,_]{0,14})", re.IGNORECASE)
_REQUESTED = re.compile(r"\brequested\b\W{0,4}(\d[\d,_]{0,14})", re.IGNORECASE)
_REQUEST_TOO_LARGE = re.compile(rf"\b(request|message|{_INPUT}).{{0,60}}{_TOO_MUCH}", re.IGNORECASE)


def has_too_many_texts(refusal: Refusal) -> bool:
    """Whether the refusal is about the number of texts, not about their length."""
    words = _words(refusal)
    return bool(_TOO_MANY_TEXTS.search(words)) and "token" not in words.lower()


def is_too_long(refusal: Refusal) -> bool:
    """Whether a text has too many tokens for the model; not for limits over time."""
    if _TOO_LONG_CODE.search(f"{refusal.code} {refusal.kind}"):
        return True
    words = _words(refusal)
    if not _TOO_LONG.search(words):
        return False
    if re.search(_CONTEXT, words, re.IGNORECASE):  # a model's, whatever else is said
        return True
    return refusal.status != 429 and not _OF_TIME.search(words)


def beyond_limit(refusal: Refusal) -> int | None:
    """The limit in tokens, when one request asks for more than a rate limit ever allows.

    Waiting does not cure it. 0 when it does not say how many; None for an ordinary 429.
    """
    words = refusal.words
    limit, requested = _LIMIT.search(words), _REQUESTED.search(words)
    if limit and requested:
        allowed = _number(limit[1])
        return allowed if _number(requested[1]) > allowed else None
    is_too_large = _REQUEST_TOO_LARGE.search(words) or "too_large" in refusal.code
    return 0 if is_too_large else None


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text))


def _words(refusal: Refusal) -> str:
    return f"{refusal.words}\n{refusal.code}"
