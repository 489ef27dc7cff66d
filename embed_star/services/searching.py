"""The use cases of those who search, wired."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from embed_star.services.calling import Calling

if TYPE_CHECKING:
    from embed_star.search import Duplicates, Lookup, Search, Similar


class Searching(Calling):
    """Of these, only `search` asks the provider."""

    @cached_property
    def search(self) -> Search:
        from embed_star.providers.catalogue import prefixes
        from embed_star.providers.roles import Role
        from embed_star.search import Search
        from embed_star.search.queries import QueryEmbedder

        queries = QueryEmbedder(
            gateway=self.gateway,
            cache=self.cache,
            validator=self.validator,
            max_tokens=self.settings.text_tokens,
            before_query=prefixes(self.settings.model)[Role.QUERY],
        )
        return Search(self.store.retrieval, queries, max_tokens=self.settings.text_tokens)

    @cached_property
    def lookup(self) -> Lookup:
        from embed_star.search import Lookup

        return Lookup(self.store.retrieval, self.store.failures)

    @cached_property
    def similar(self) -> Similar:
        from embed_star.search import Similar

        return Similar(self.store.retrieval, self.lookup)

    @cached_property
    def duplicates(self) -> Duplicates:
        from embed_star.search import Duplicates

        return Duplicates(self.store.retrieval)
