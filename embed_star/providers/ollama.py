"""Ollama's own API, `POST {url}/api/embed`: a model on this machine or network.

It answers 400 to every error of a model's runner. Only the words tell whether a text caused it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderConfigError,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
)
from embed_star.providers.base import Embeddings
from embed_star.providers.catalogue import prefixes
from embed_star.providers.dialect import Dialect, Sign, Unusable
from embed_star.providers.error_responses import Endpoint
from embed_star.providers.http.client import Answer, JsonClient, Refused
from embed_star.providers.http.deadline import Limits
from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.http.length_errors import is_too_long
from embed_star.providers.responses import WrongLength, answered_model, count_of, vectors_of
from embed_star.providers.roles import Role

if TYPE_CHECKING:
    from embed_star.settings import Settings

_TEXT_FAULT = re.compile(
    # Some models compute NaN for some texts (bge-m3 does); JSON cannot carry it.
    r"failed to encode response: json: unsupported value|embedding contains nan",
    re.IGNORECASE,
)
_RUNNER_FAULT = re.compile(
    r"do embedding request|llama runner|llm server|unexpected server status|error acquiring"
    r"|.{0,40}runner process",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"""model\b.{0,200}?not found""", re.IGNORECASE)
_NO_EMBEDDINGS = re.compile(r""".{0,200}?does not support embed""", re.IGNORECASE)


def ollama(settings: Settings) -> Ollama:
    """Ollama at OLLAMA_URL."""
    endpoint = Endpoint(
        provider="ollama",
        base_url=settings.ollama_url,
        url_setting="OLLAMA_URL",
        model=settings.model,
    )
    return Ollama(endpoint, settings.dimensions, Limits.of(settings), settings.most_calls)


class Ollama:
    """A `Provider` over Ollama."""

    def __init__(
        self, endpoint: Endpoint, dimensions: int, limits: Limits, pool_size: int = 1
    ) -> None:
        self.name = endpoint.provider
        self.model = endpoint.model
        self.dimensions = dimensions
        self._endpoint = endpoint
        self._before = prefixes(endpoint.model)
        self._dialect = Dialect(endpoint.model, dimensions, "float")
        self._client = JsonClient(endpoint, limits, pool_size, self._explain)

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """See `Provider.embed`. Vectors come in the order of the texts, without an index."""
        deadline, dialogue = self._client.deadline(), self._dialect.begin()
        inputs = [self._before[role] + text for text in texts]
        while True:
            payload = {
                "model": self.model,
                "input": inputs,
                "truncate": True,
                **dialogue.options,
            }
            try:
                answer = self._client.post("api/embed", payload, deadline)
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

    def _read(self, answered: Answer | Refused, count: int) -> Embeddings:
        if isinstance(answered, Refused):
            raise answered.error
        answer = answered.body
        items = self._counted(answer.get("embeddings"), count)
        try:
            vectors = vectors_of(items, self.dimensions, self._endpoint)
        except WrongLength as error:
            raise Unusable(ProviderConfigError(str(error)), Sign.LENGTH) from None
        tokens = count_of(answer.get("prompt_eval_count"))
        model = answered_model(answer.get("model"))
        return Embeddings(vectors, tokens, answered.quota_pause_s, model)

    def _counted(self, vectors: Any, count: int) -> list[Any]:
        if not isinstance(vectors, list):
            raise ProviderProtocolError(
                f"{self._endpoint.label} answered no list of vectors; check OLLAMA_URL"
            )
        if len(vectors) != count:
            raise ProviderProtocolError(
                f"{self._endpoint.label} answered {len(vectors)} vectors for {count} texts",
                len(vectors),
            )
        return vectors

    def _explain(self, refusal: Refusal) -> EmbedStarError | None:
        label, status, words = self._endpoint.label, refusal.status, refusal.message
        if status == 404 and _NO_MODEL.match(words):
            return ProviderConfigError(
                f"{label} has no model {self.model}; run `ollama pull {self.model}` there"
            )
        if _NO_EMBEDDINGS.match(words):
            return ProviderConfigError(
                f"{label} cannot embed with {self.model}; set EMBEDDING_MODEL to an embedding model"
            )
        if status in (400, 500) and _TEXT_FAULT.match(words):
            return InputRejected(
                f"{label} could not embed one of these texts: it computes NaN (HTTP {status})"
            )
        if status == 400 and _RUNNER_FAULT.match(words) and not is_too_long(refusal):
            return ProviderUnavailable(f"{label} lost the process that runs {self.model}")
        return None
