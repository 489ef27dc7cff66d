"""The repositories whose meaning is nearest to that of one repository."""

from __future__ import annotations

from collections.abc import Sequence

from embed_star.errors import NotEmbedded
from embed_star.models import key_text
from embed_star.search.lookup import Lookup
from embed_star.search.results import Hit, check_count
from embed_star.store.tables.filters import NO_FILTERS, Filters
from embed_star.store.tables.retrieval import Retrieval


class Similar:
    """Compares the vectors that are stored: it asks no provider."""

    def __init__(self, retrieval: Retrieval, lookup: Lookup) -> None:
        self._retrieval = retrieval
        self._lookup = lookup

    def find(self, full_name: str, k: int, filters: Filters = NO_FILTERS) -> Sequence[Hit]:
        """The `k` repos most like `full_name` (owner/name), best first, without itself.

        Raises UnknownRepo when there is no such repo, NotEmbedded when it has no vector, and
        ConfigError if `k` is not from 1 to MAX_HITS.
        """
        check_count(k)
        key = self._lookup.repo(full_name)["id"].id
        stored = self._retrieval.vector(key)
        if stored is None:
            raise NotEmbedded(
                f"{full_name} has no vector yet, or could not be embedded: "
                f"`embed-star get {full_name}` says which"
            )
        itself = key_text(key)
        found = self._retrieval.nearest(stored.vector, k + 1, filters)
        others = [one for one in found if key_text(one.repo["id"].id) != itself]
        return [Hit(one.repo, one.score) for one in others[:k]]
