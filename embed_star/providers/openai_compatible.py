"""OpenAI's embeddings API, which OpenAI, Together and most servers speak.

Tried shapes: OpenAI, Together, vLLM, TEI, LiteLLM, LM Studio, llama.cpp. Vectors are
asked for as base64 where the provider is `openai`: a quarter of the bytes and a tenth of
the time to read them. Servers that ignore it answer lists; those that refuse it are
asked again without, and not bothered with it any more.

OpenAI takes at most 2,048 texts and 300,000 tokens a request: BATCH_SIZE and
BATCH_MAX_TOKENS stay below. Other servers take fewer texts (TEI 32 unless told).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embed_star.errors import (
    ConfigError,
    EmbedStarError,
    InputRejected,
    ProviderConfigError,
    ProviderProtocolError,
)
from embed_star.providers.answers import answered_model, count_of, vectors_of
from embed_star.providers.base import Embeddings
from embed_star.providers.deadline import Limits
from embed_star.providers.http import Answer, JsonClient
from embed_star.providers.refusals import Endpoint, Refusal

if TYPE_CHECKING:
    from embed_star.settings import Settings

NATIVE_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
"""Models that shorten their vectors when asked; others refuse the parameter."""


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
        pool_size=settings.parallel_workers,
        base64=True,
    )


def together(settings: Settings) -> OpenAICompatible:
    """Together AI: the same API without base64 and shorter vectors."""
    endpoint = Endpoint(
        provider="together",
        base_url=settings.together_base_url,
        url_setting="TOGETHER_BASE_URL",
        model=settings.model,
        key=settings.together_api_key,
        key_setting="TOGETHER_API_KEY",
    )
    return OpenAICompatible(
        endpoint, settings.dimensions, Limits.of(settings), pool_size=settings.parallel_workers
    )


class _Base64Refused(InputRejected):
    """Perhaps because of `encoding_format`: worth one call without it, if it was sent."""


class OpenAICompatible:
    """A `Provider` over `POST {base}/embeddings`."""

    def __init__(
        self,
        endpoint: Endpoint,
        dimensions: int,
        limits: Limits,
        *,
        pool_size: int = 1,
        base64: bool = False,
    ) -> None:
        self.name = endpoint.provider
        self.model = endpoint.model
        self.dimensions = dimensions
        self._endpoint = endpoint
        self._options = _options(endpoint.model, dimensions)
        self._base64 = base64
        self._client = JsonClient(endpoint, limits, pool_size, self._explain)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Provider.embed`."""
        deadline = self._client.deadline()
        payload = {"model": self.model, "input": list(texts), **self._options}
        if self._base64:
            try:
                packed = {**payload, "encoding_format": "base64"}
                return self._read(self._client.post("embeddings", packed, deadline), len(texts))
            except _Base64Refused:
                pass
        answer = self._client.post("embeddings", payload, deadline)
        self._base64 = False
        return self._read(answer, len(texts))

    def cut(self) -> None:
        """See `Provider.cut`."""
        self._client.cut()

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
        # Found anywhere, unlike other words: a text that echoes it costs one more call.
        words = f"{refusal.param} {refusal.message}".lower()
        if "encoding_format" in words or "base64" in words:
            return _Base64Refused(
                f"{self._endpoint.label} refused these texts (HTTP {refusal.status})"
            )
        return None

    def _read(self, answered: Answer, count: int) -> Embeddings:
        answer = answered.body
        items = self._in_order(answer.get("data"), count)
        usage = answer.get("usage")
        tokens = count_of(usage.get("total_tokens")) if isinstance(usage, dict) else None
        vectors = vectors_of(items, self.dimensions, self._endpoint)
        model = answered_model(answer.get("model"))
        return Embeddings(vectors, tokens, answered.quota_pause_s, model)

    def _in_order(self, data: Any, count: int) -> list[Any]:
        """The vectors by their `index`; the order in the answer says nothing."""
        label = self._endpoint.label
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise ProviderProtocolError(
                f"{label} answered no list of vectors; check {self._endpoint.url_setting}"
            )
        if len(data) != count:
            raise ProviderProtocolError(
                f"{label} answered {len(data)} vectors for {count} texts", len(data)
            )
        vectors = {
            item["index"]: item.get("embedding") for item in data if type(item.get("index")) is int
        }
        if vectors.keys() != set(range(count)):
            raise ProviderProtocolError(
                f"{label} answered vectors whose indexes are not 0 to {count - 1}, each once"
            )
        return [vectors[index] for index in range(count)]


def _options(model: str, dimensions: int) -> dict[str, Any]:
    """What asks for vectors of `dimensions`, where the model has to be asked."""
    native = NATIVE_DIMENSIONS.get(model.rpartition("/")[2])
    if native is None or native == dimensions:
        return {}
    if dimensions > native:
        raise ConfigError(f"EMBEDDING_DIMENSIONS must be at most {native} with {model}")
    return {"dimensions": dimensions}
