"""OpenAI's embeddings API, which OpenAI, Together and most servers speak.

Tried shapes: OpenAI, Together, Gemini, vLLM, TEI, LiteLLM, LM Studio, llama.cpp. Vectors are
asked for as base64 where the provider is `openai`: a quarter of the bytes, read in a tenth
of the time. Servers that ignore it answer lists. `dialect` finds out which options a server
refuses.

OpenAI takes at most 2,048 texts and 300,000 tokens a request: BATCH_SIZE and
BATCH_MAX_TOKENS stay below. Other servers take fewer texts (TEI 32 unless told), and get fewer once
they have said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderConfigError,
    ProviderError,
    ProviderProtocolError,
)
from embed_star.providers.base import Embeddings
from embed_star.providers.catalogue import prefixes
from embed_star.providers.dialect import Dialect, Sign, Unusable
from embed_star.providers.error_responses import Endpoint
from embed_star.providers.http.client import Answer, JsonClient, Refused
from embed_star.providers.http.deadline import Limits
from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.http.length_errors import has_too_many_texts, is_too_long
from embed_star.providers.responses import (
    WrongLength,
    answered_model,
    count_of,
    in_order,
    vectors_of,
)
from embed_star.providers.roles import Role

if TYPE_CHECKING:
    from embed_star.settings import Settings

_NO_DIALECT = frozenset({401, 402, 403, 407, 408, 425, 429, 502, 503, 504})
"""Statuses that no option of ours can cause: access, limits, and proxies before the server."""


def openai(settings: Settings) -> OpenAICompatible:
    """OpenAI, or any compatible server at OPENAI_BASE_URL."""
    endpoint = Endpoint(
        provider="openai",
        base_url=settings.openai_base_url,
        url_setting="OPENAI_BASE_URL",
        model=settings.model,
        key=settings.openai_api_key,
        key_setting="OPENAI_API_KEY",
    )
    return OpenAICompatible(
        endpoint,
        settings.dimensions,
        Limits.of(settings),
        pool_size=settings.most_calls,
        encoding=settings.openai_encoding_format,
    )


def together(settings: Settings) -> OpenAICompatible:
    """Together AI: the same API without base64."""
    endpoint = Endpoint(
        provider="together",
        base_url=settings.facts.address,
        url_setting="Together AI's address",
        model=settings.model,
        key=settings.together_api_key,
        key_setting="TOGETHER_API_KEY",
    )
    return OpenAICompatible(
        endpoint,
        settings.dimensions,
        Limits.of(settings),
        pool_size=settings.most_calls,
    )


class OpenAICompatible:
    """A `Provider` over `POST {base}/embeddings`."""

    def __init__(
        self,
        endpoint: Endpoint,
        dimensions: int,
        limits: Limits,
        *,
        pool_size: int = 1,
        encoding: str = "float",
    ) -> None:
        self.name = endpoint.provider
        self.model = endpoint.model
        self.dimensions = dimensions
        self._endpoint = endpoint
        self._before = prefixes(endpoint.model)
        self._dialect = Dialect(endpoint.model, dimensions, encoding)
        self._client = JsonClient(endpoint, limits, pool_size, self._explain)

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """See `Provider.embed`."""
        deadline, dialogue = self._client.deadline(), self._dialect.begin()
        inputs = [self._before[role] + text for text in texts]
        while True:
            payload = {"model": self.model, "input": inputs, **dialogue.options}
            try:
                answer = self._client.post("embeddings", payload, deadline)
                found = self._read(answer, len(texts))
            except (Unusable, ProviderError) as error:
                dialogue.failed(error)
            else:
                if dialogue.is_over(found):
                    return found

    def abort(self) -> None:
        """See `Provider.abort`."""
        self._client.abort()

    def close(self) -> None:
        """See `Provider.close`."""
        self._client.close()

    def _explain(self, refusal: Refusal) -> EmbedStarError | None:
        if refusal.status not in (400, 422):
            return None
        if refusal.param == "dimensions":
            return ProviderConfigError(
                f"{self._endpoint.label} does not shorten vectors of {self.model} to "
                f"{self.dimensions}; correct EMBEDDING_DIMENSIONS"
            )
        return None

    def _read(self, answered: Answer | Refused, count: int) -> Embeddings:
        if isinstance(answered, Refused):
            raise _perhaps_of_the_options(answered)
        answer = answered.body
        try:
            items = in_order(answer.get("data"), count, self._endpoint)
            vectors = vectors_of(items, self.dimensions, self._endpoint)
        except WrongLength as error:
            raise Unusable(ProviderConfigError(str(error)), Sign.LENGTH) from None
        except ProviderProtocolError as error:
            if error.vectors == 1:
                raise  # it takes one text a call, and was paid for it
            raise Unusable(error, Sign.BROKEN) from None
        usage = answer.get("usage")
        tokens = count_of(usage.get("total_tokens")) if isinstance(usage, dict) else None
        model = answered_model(answer.get("model"))
        return Embeddings(vectors, tokens, answered.quota_pause_s, model)


def _perhaps_of_the_options(refused: Refused) -> Exception:
    """The refusal's error; Unusable when the server may have refused `encoding_format`."""
    refusal, error = refused
    status = refusal.status
    if status in _NO_DIALECT or status >= 520 or 300 <= status < 400:
        return error
    if is_too_long(refusal) or has_too_many_texts(refusal):
        return error
    sign = Sign.REFUSED if isinstance(error, InputRejected) else Sign.BROKEN
    return Unusable(error, sign)
