"""The use cases of those who search, wired."""

from __future__ import annotations

from functools import cached_property

from embed_star.providers.catalogue import prefixes
from embed_star.providers.roles import Role
from embed_star.search import Duplicates, Lookup, Search, Similar
from embed_star.search.queries import QueryEmbedder
from embed_star.services.calling import Calling


class Searching(Calling):
    """Of these, only `search` asks the provider."""

    @cached_property
    def search(self) -> Search:
        return Search(
            self.store.retrieval,
            QueryEmbedder(
                gateway=self.gateway,
                cache=self.cache,
                validator=self.validator,
                max_tokens=self.settings.text_tokens,
                before_query=prefixes(self.settings.model)[Role.QUERY],
            ),
        )

    @cached_property
    def lookup(self) -> Lookup:
        return Lookup(self.store.retrieval, self.store.failures)

    @cached_property
    def similar(self) -> Similar:
        return Similar(self.store.retrieval, self.lookup)

    @cached_property
    def duplicates(self) -> Duplicates:
        return Duplicates(self.store.retrieval)
