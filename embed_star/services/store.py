"""SurrealDB, wired: the connection pool and the tables of one space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from embed_star.embed import text
from embed_star.models import Space
from embed_star.providers.catalogue import prefixes
from embed_star.providers.roles import Role
from embed_star.settings import Settings
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Database
from embed_star.store.migrations import Migrator, find_directory, read_migrations
from embed_star.store.tables.checkpoints import SurrealCheckpoints, Timestamps
from embed_star.store.tables.failures import Failures
from embed_star.store.tables.installation import Installation
from embed_star.store.tables.locks import LockTable
from embed_star.store.tables.outbox import SurrealOutbox
from embed_star.store.tables.passages import SurrealPassages
from embed_star.store.tables.readmes import Readmes
from embed_star.store.tables.repos import SurrealRepos
from embed_star.store.tables.retrieval import SurrealRetrieval
from embed_star.store.tables.space_watch import SpaceWatch
from embed_star.store.tables.spaces import Spaces
from embed_star.store.tables.vectors import SurrealVectors


def space_of(settings: Settings) -> Space:
    """The embedding space that the settings describe."""
    return Space(
        provider=settings.embedding_provider,
        model=settings.model,
        dimensions=settings.dimensions,
        text_version=text.text_version(
            settings.text_fields, settings.text_tokens, prefixes(settings.model)[Role.DOCUMENT]
        ),
    )


def target_of(settings: Settings) -> Target:
    """SurrealDB as the workload's user."""
    return Target(
        url=settings.db_url,
        user=settings.db_user,
        password=settings.db_pass.get_secret_value(),
        namespace=settings.db_namespace,
        database=settings.db_database,
        connect_timeout_s=settings.timings.db_connect_timeout_s,
        timeout_s=settings.db_timeout_s,
    )


@dataclass(frozen=True)
class Store:
    """Everything in SurrealDB, for one space."""

    database: Database
    space: Space
    text_fields: tuple[str, ...]
    installation_id: str = ""
    """The name that the settings give, if any."""

    @cached_property
    def installation(self) -> Installation:
        return Installation(self.database, self.installation_id)

    @cached_property
    def repos(self) -> SurrealRepos:
        return SurrealRepos(self.database, self.space, self.text_fields)

    @cached_property
    def passages(self) -> SurrealPassages:
        return SurrealPassages(self.database, self.space)

    @cached_property
    def readmes(self) -> Readmes:
        return Readmes(self.database)

    @cached_property
    def outbox(self) -> SurrealOutbox:
        return SurrealOutbox(self.database)

    @cached_property
    def vectors(self) -> SurrealVectors:
        return SurrealVectors(self.database, self.space)

    @cached_property
    def retrieval(self) -> SurrealRetrieval:
        return SurrealRetrieval(self.database, self.space)

    @cached_property
    def locks(self) -> LockTable:
        return LockTable(self.database)

    @cached_property
    def failures(self) -> Failures:
        return Failures(self.database, self.space)

    @cached_property
    def checkpoints(self) -> SurrealCheckpoints:
        return SurrealCheckpoints(self.database, self.space)

    @cached_property
    def timestamps(self) -> Timestamps:
        return Timestamps(self.database)

    @cached_property
    def space_watch(self) -> SpaceWatch:
        return SpaceWatch(self.spaces, self.space)

    @cached_property
    def spaces(self) -> Spaces:
        return Spaces(self.database)

    @cached_property
    def migrator(self) -> Migrator:
        return Migrator(self.database, read_migrations(find_directory()))

    def check(self, *, to_write: bool = True) -> None:
        """Raise SchemaError, saying what to run, unless the schema fits this code.

        With `to_write`, raises StoreAuthError when the user may not write.
        """
        if to_write:
            self.database.check_rights()
        self.migrator.check()
        self.installation.name()
        self.spaces.check(self.space)
