"""How far a reconcile has come and when maintenance was last done, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from embed_star.models import Key, Space
from embed_star.store.client.codec import decode_key, encode_key, record
from embed_star.store.client.pool import Database

SWEPT = "swept"


class Phase(StrEnum):
    """The parts of a reconcile, in order."""

    REPOS = "repos"
    VECTORS = "vectors"
    FAILURES = "failures"
    RETIRED = "retired"
    """The vectors of retired spaces, one space after another."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """The position of a reconcile: its phase, the last key in it, and its counts."""

    phase: Phase = Phase.REPOS
    after: Key | None = None
    """The last key that this phase is done with; None at its beginning."""
    checked: int = 0
    """Repos so far."""
    found: int = 0
    """Rows put into the backlog so far."""
    removed: int = 0
    """Records of deleted repos removed so far."""
    space: str = ""
    """The retired space that is being walked; empty before the first."""
    claimed: tuple[Key, ...] = ()
    """Stale rows that runs held when the walk passed them: they are looked at once more."""

    @property
    def waits(self) -> bool:
        """Whether the next step looks at claimed rows again, for which it may give them time."""
        return bool(self.claimed) and self.phase is not Phase.REPOS

    def next_phase(self) -> Progress:
        """The beginning of the next phase."""
        phases = list(Phase)
        return replace(self, phase=phases[phases.index(self.phase) + 1], after=None, space="")


class Checkpoints(Protocol):
    """The reconcile cursor of one space, by the database's clock."""

    def load(self) -> Progress | None:
        """The progress that was saved last; None when there is none."""

    def save(self, progress: Progress) -> None:
        """Save `progress`; when its phase is DONE, the time too."""

    def unfinished_age(self) -> timedelta | None:
        """How long ago the present walk began, or the last one; None: unknown."""

    def finished_at(self) -> datetime | None:
        """When a reconcile last finished; None: never in this space."""

    def forget(self) -> None:
        """Make the next reconcile due at once, from the first row."""

    def finished_age(self) -> timedelta | None:
        """How long ago a reconcile last finished; None: never in this space."""


class SurrealCheckpoints:
    """In SurrealDB, a record for each space."""

    def __init__(self, database: Database, space: Space) -> None:
        self._database = database
        self._id = record("embedding_cursor", ["reconcile", space.name])

    def load(self) -> Progress | None:
        (rows,) = self._database.query("SELECT * FROM $id", id=self._id)
        if not rows:
            return None
        row = rows[0]
        after = row.get("after")
        return Progress(
            Phase(row["phase"]),
            decode_key(after) if isinstance(after, bytes) else None,
            int(row["checked"]),
            int(row["found"]),
            int(row.get("removed") or 0),
            str(row.get("space") or ""),
            tuple(decode_key(key) for key in row.get("claimed") or ()),
        )

    def save(self, progress: Progress) -> None:
        done = progress.phase is Phase.DONE
        begins = progress == Progress()
        self._database.query(
            "UPSERT $id SET phase = $phase, after = $after, checked = $checked, found = $found, "
            "removed = $removed, space = $space, claimed = $claimed, "
            f"begun = {'time::now()' if begins else 'begun'}, "
            f"finished = {'time::now()' if done else 'finished'} RETURN NONE",
            id=self._id,
            phase=progress.phase.value,
            # As bytes: a key of any type, exactly, and no link that a backup would have to follow.
            after=None if progress.after is None else encode_key(progress.after),
            checked=progress.checked,
            found=progress.found,
            removed=progress.removed,
            space=progress.space,
            claimed=[encode_key(key) for key in progress.claimed],
        )

    def unfinished_age(self) -> timedelta | None:
        (rows,) = self._database.query(
            "SELECT VALUE time::now() - begun FROM $id WHERE begun != NONE", id=self._id
        )
        return rows[0] if rows else None

    def finished_at(self) -> datetime | None:
        (rows,) = self._database.query("SELECT VALUE finished FROM $id", id=self._id)
        return rows[0] if rows else None

    def forget(self) -> None:
        self._database.query("DELETE $id RETURN NONE", id=self._id)

    def finished_age(self) -> timedelta | None:
        (rows,) = self._database.query(
            "SELECT VALUE time::now() - finished FROM $id WHERE finished != NONE", id=self._id
        )
        return rows[0] if rows else None


class Timestamps:
    """The times when maintenance was last done, by name, in any space. Example: SWEPT."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, name: str) -> None:
        """Save that it is done now."""
        self._database.query("UPSERT $id SET at = time::now() RETURN NONE", id=_timestamp_id(name))

    def at(self, name: str) -> datetime | None:
        """When it was last done; None: never."""
        (rows,) = self._database.query("SELECT VALUE at FROM $id", id=_timestamp_id(name))
        return rows[0] if rows else None


def _timestamp_id(name: str) -> object:
    return record("embedding_cursor", ["mark", name])
