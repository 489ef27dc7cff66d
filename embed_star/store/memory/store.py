"""The store of one space in memory, wired."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embed_star.models import Space
from embed_star.store.memory.checkpoints import MemoryCheckpoints, MemoryTimestamps
from embed_star.store.memory.database import MemoryDatabase
from embed_star.store.memory.failures import MemoryFailures
from embed_star.store.memory.locks import MemoryLockTable
from embed_star.store.memory.orphans import MemoryOrphans
from embed_star.store.memory.outbox import MemoryOutbox
from embed_star.store.memory.passages import MemoryPassages
from embed_star.store.memory.repos import MemoryRepos
from embed_star.store.memory.retrieval import MemoryRetrieval
from embed_star.store.memory.spaces import MemorySpaces
from embed_star.store.memory.vectors import MemoryVectors
from embed_star.store.tables.space_watch import SpaceWatch


class MemoryStore:
    """As `services.store.Store`, under the same names, and usable at once.

    Stores over one database are those of several processes. Making one makes its space the
    active one, as `embed-star migrate` does.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        space: Space,
        text_fields: Sequence[str],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`clock` is this process' own; by default the database's."""
        self.database = database
        self.space = space
        self.repos = MemoryRepos(database, space, text_fields)
        self.outbox = MemoryOutbox(database)
        self.vectors = MemoryVectors(database, space)
        self.passages = MemoryPassages(database, space)
        self.retrieval = MemoryRetrieval(database, space)
        self.locks = MemoryLockTable(database)
        self.failures = MemoryFailures(database, space)
        self.checkpoints = MemoryCheckpoints(database, space)
        self.timestamps = MemoryTimestamps(database)
        self.spaces = MemorySpaces(database)
        self.space_watch = SpaceWatch(self.spaces, space, clock or database.clock)
        self.orphans = MemoryOrphans(database)
        self.spaces.ensure(space, text_fields)
