"""Cohere's API, `POST {base}/v2/embed`: the worked example of a provider in CONTRIBUTING.md.

It takes 96 texts a call, and its facts say so; a BATCH_SIZE has to be that or less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embed_star.errors import EmbedStarError, ProviderConfigError, ProviderProtocolError
from embed_star.providers.base import Embeddings
from embed_star.providers.catalogue import PROVIDERS, shortened_from
from embed_star.providers.error_responses import Endpoint
from embed_star.providers.http.client import JsonClient, Refused
from embed_star.providers.http.deadline import Limits
from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.responses import WrongLength, count_of, vectors_of
from embed_star.providers.roles import Role

if TYPE_CHECKING:
    from embed_star.settings import Settings

_NO_MODEL = re.compile(r"model '.{1,100}' not found", re.IGNORECASE)


def cohere(settings: Settings) -> Cohere:
    """Cohere at the address in the catalogue."""
    endpoint = Endpoint(
        provider="cohere",
        base_url=PROVIDERS["cohere"].address,
        url_setting="the address in catalogue.toml",
        model=settings.model,
        key=settings.cohere_api_key,
        key_setting="COHERE_API_KEY",
    )
    return Cohere(endpoint, settings.dimensions, Limits.of(settings), settings.most_calls)


class Cohere:
    """A `Provider` over Cohere."""

    def __init__(
        self, endpoint: Endpoint, dimensions: int, limits: Limits, pool_size: int = 1
    ) -> None:
        self.name = endpoint.provider
        self.model = endpoint.model
        self.dimensions = dimensions
        self._endpoint = endpoint
        self._client = JsonClient(endpoint, limits, pool_size, self._explain)
        self._options: dict[str, Any] = {"embedding_types": ["float"]}
        if shortened_from(endpoint.model) not in (None, dimensions):
            self._options["output_dimension"] = dimensions

    def embed(self, texts: Sequence[str], role: Role = Role.DOCUMENT) -> Embeddings:
        """See `Provider.embed`. Vectors come in the order of the texts, without an index."""
        payload = {
            "model": self.model,
            "texts": list(texts),
            "input_type": f"search_{role}",
            **self._options,
        }
        answered = self._client.post("v2/embed", payload)
        if isinstance(answered, Refused):
            raise answered.error
        answer = answered.body
        items = self._counted(answer.get("embeddings"), len(texts))
        try:
            vectors = vectors_of(items, self.dimensions, self._endpoint)
        except WrongLength as error:
            raise ProviderConfigError(str(error)) from None
        return Embeddings(vectors, _tokens(answer.get("meta")), answered.quota_pause_s)

    def abort(self) -> None:
        """See `Provider.abort`."""
        self._client.abort()

    def close(self) -> None:
        """See `Provider.close`."""
        self._client.close()

    def _counted(self, by_type: Any, count: int) -> list[Any]:
        """The vectors, one for each text; raises ProviderProtocolError."""
        vectors = by_type.get("float") if isinstance(by_type, dict) else None
        if not isinstance(vectors, list):
            raise ProviderProtocolError(
                f"{self._endpoint.label} answered no list of vectors; "
                f"check {self._endpoint.url_setting}"
            )
        if len(vectors) != count:
            raise ProviderProtocolError(
                f"{self._endpoint.label} answered {len(vectors)} vectors for {count} texts",
                len(vectors),
            )
        return vectors

    def _explain(self, refusal: Refusal) -> EmbedStarError | None:
        """The error where Cohere's words say more than the status; None: as for everybody."""
        if refusal.status == 404 and _NO_MODEL.match(refusal.message):
            return ProviderConfigError(
                f"{self._endpoint.label} has no model {self.model}; set EMBEDDING_MODEL"
            )
        return None


def _tokens(meta: Any) -> int | None:
    """The tokens that are billed, None where it does not say."""
    billed = meta.get("billed_units") if isinstance(meta, dict) else None
    return count_of(billed.get("input_tokens")) if isinstance(billed, dict) else None
