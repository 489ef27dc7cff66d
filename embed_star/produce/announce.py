"""Rows that somebody asks for by name become pending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from embed_star.models import Key, Lane, key_text
from embed_star.store.tables.failures import Failure
from embed_star.store.tables.outbox import Outbox


class ReleasesFailures(Protocol):
    """`store.tables.failures.Failures`."""

    def find(self, keys: Sequence[Key]) -> list[Failure]: ...

    def release(self, keys: Sequence[Key]) -> None: ...


def announce(keys: Sequence[Key], outbox: Outbox, failures: ReleasesFailures) -> None:
    """Put `keys` into the fresh lane; those that failed are tried again.

    A row whose vector is current costs one read and no call of the provider. A second call
    announces them again, at the same cost.
    """
    failed = [one.key for one in failures.find(keys)]
    known = set(map(key_text, failed))
    if failed:
        failures.release(failed)
    if others := [(key, 0) for key in keys if key_text(key) not in known]:
        outbox.announce(others, Lane.FRESH)
