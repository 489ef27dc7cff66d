"""A user of the database: writes, edits and deletes rows, in an order that a seed decides."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from embed_star.errors import AlreadyExists, TransientError
from embed_star.models import Key
from tests.support.lab import Lab, example_readme, example_row

PAUSE_S = 0.05
"""Between two writes."""
PATIENCE_S = 60.0
"""No database for so long is a failure of the case."""
_AGAIN_S = 0.1

MARKS = ("A project about subject", "Now it is about", "A part of a README")
"""Each text of a row has one of these: what must not be in any log."""


class User:
    """Writes directly to the database, not over the links that break.

    A write that fails is tried again, as an application would: with ids of its own
    choice, twice is once. Keys, texts and the order of writes follow from the seed alone.
    """

    def __init__(self, lab: Lab, seed: int, *, edits: bool = True, passages: int = 0) -> None:
        """`passages`: how many the README of each row has; 0: rows have none."""
        self._lab = lab
        self._passages = passages
        self._random = random.Random(seed)  # noqa: S311 - to be repeated
        self._edits = edits
        self.keys: list[Key] = []
        """Of the rows there are, oldest first."""
        self._next_key = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: list[BaseException] = []
        self.written = 0
        """Rows inserted, edited and deleted so far."""
        self.refused = 0
        """Writes that the database did not take at once."""

    def write(self, rows: int) -> None:
        """So many rows, and perhaps a few more."""
        until = self.written + rows
        while self.written < until:
            self._write_some()

    def stroll(self, until: int) -> None:
        """Write, as `begin` does, until so many rows are written in all."""
        while self.written < until:
            time.sleep(PAUSE_S)  # a user's pace, so that a fault lasts for some time
            self._write_some()

    def insert(self, rows: int) -> list[Key]:
        """Fresh rows in one statement; their keys."""
        keys: list[Key] = list(range(self._next_key, self._next_key + rows))
        self._next_key += rows
        self._insist(lambda: self._lab.write({key: self._row(int(key)) for key in keys}))
        self.keys += keys
        self.written += rows
        return keys

    def edit(self, key: Key) -> None:
        """Give a row another text, or another part of its README."""
        number = self._random.randrange(10**12)
        fields = {"description": f"{MARKS[1]} {number}"}
        if self._passages and number % 3:
            fields = {"readme": self.readme(int(key), number)}
        self._insist(lambda: self._lab.edit(key, **fields))
        self.written += 1

    def readme(self, key: int, last: object = "last") -> str:
        """The README of a row; `last` is what its last passage is of."""
        return example_readme(*(f"{key} {n}" for n in range(self._passages - 1)), f"{key} {last}")

    def delete(self, key: Key) -> None:
        self._insist(lambda: self._lab.delete(key))
        self.keys.remove(key)
        self.written += 1

    def begin(self) -> None:
        """Write on and on, in a thread, until `end`."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop writing. Raises what went wrong. Twice changes nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed:
            raise self._failed.pop()

    def abandon(self) -> None:
        """Stop writing, whatever went wrong."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _row(self, key: int) -> dict[str, Any]:
        readme = {"readme": self.readme(key)} if self._passages else {}
        return {**example_row(key), **readme}

    def _write_on(self) -> None:
        try:
            while not self._stop.wait(PAUSE_S):
                self._write_some()
        except BaseException as error:  # noqa: BLE001 - raised in `end`
            self._failed.append(error)

    def _write_some(self) -> None:
        chance = self._random.random()
        if self._edits and self.keys and chance < 0.3:
            self.edit(self._random.choice(self.keys))
        elif self._edits and self.keys and chance < 0.4:
            self.delete(self._random.choice(self.keys))
        else:
            self.insert(self._random.randint(1, 8))

    def _insist(self, write: Callable[[], None]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return write()
            except AlreadyExists:  # it had arrived, and its answer had not
                return None
            except TransientError:
                self.refused += 1
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(_AGAIN_S)
