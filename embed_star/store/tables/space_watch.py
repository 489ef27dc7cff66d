"""Watches whether a process's space is still active: `embed-star migrate` may change it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from embed_star.errors import AnotherSpace
from embed_star.models import Space

log = structlog.get_logger(__name__)

EVERY_S = 1.0
"""How old an answer may be. A new one is one record, read by its id."""


class SpaceStates(Protocol):
    """The records of spaces: `store.tables.spaces.Spaces`, or in memory."""

    def state(self, space: Space) -> str | None:
        """`active` or `retired`; None when there is no record. Raises StoreUnavailable."""


class SpaceWatch:
    """Reads the state of one space. Thread-safe."""

    def __init__(
        self, spaces: SpaceStates, space: Space, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spaces = spaces
        self._space = space
        self._clock = clock
        self._asked = float("-inf")
        self._retired = False

    def is_retired(self, *, at_once: bool = False) -> bool:
        """Whether another space is the active one. `at_once` reads it again in any case.

        A process of a retired space leaves the work to processes with other settings; the
        first call that finds it logs so. Raises StoreUnavailable.
        """
        now = self._clock()
        if not at_once and now - self._asked < EVERY_S:
            return self._retired
        state = self._spaces.state(self._space)
        self._asked = now
        self._note(state != "active")
        return self._retired

    def is_over(self, space: str) -> bool:
        """Whether nobody needs work of `space` any more, since it is retired.

        Raises AnotherSpace when it is this process' space that is: the work is for others.
        Raises StoreUnavailable.
        """
        other = space != self._space.name
        retired = self.is_retired(at_once=other)
        if retired and other:
            raise AnotherSpace(f"the message is of the space {space}, and this worker's is retired")
        return retired or other

    def _note(self, retired: bool) -> None:
        was, self._retired = self._retired, retired
        if retired and not was:
            log.error(
                "space_retired",
                space=self._space.name,
                reason="the database is embedded in another space now, so this process stands by: "
                "start it with the EMBEDDING_* and TEXT_FIELDS of the last `embed-star migrate`, "
                "or run that with the settings it has",
            )
        elif was and not retired:
            log.info("space_active_again", space=self._space.name)
