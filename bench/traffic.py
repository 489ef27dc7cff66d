"""Writes like an application's, at a chosen rate, and a look at when each is readable."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.rows import RowMaker
from embed_star.embed import text
from embed_star.services import Services
from embed_star.store.client.codec import record

NEW = 0.8
"""Share of new rows among those that need a vector; the others are edits."""
STARS = 1.0
"""Updates of stars for each row that needs a vector. They must cost nothing."""
DELETES = 0.05
_POLL_S = 0.02
_LOOK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Fresh:
    """One row written, and its vector readable `took_s` later."""

    written_s: float
    """Since the start."""
    took_s: float


class Outstanding:
    """Rows whose vector is awaited, by key: of which text, and since when. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, tuple[str, float]] = {}
        self.overtaken = 0
        """Edited or deleted before their vector was seen: not measured."""

    def __len__(self) -> int:
        return len(self._rows)

    def expect(self, key: int, text_hash: str, at_s: float) -> None:
        with self._lock:
            self.overtaken += key in self._rows
            self._rows[key] = (text_hash, at_s)

    def forget(self, key: int) -> None:
        with self._lock:
            self.overtaken += self._rows.pop(key, None) is not None

    def oldest(self) -> list[int]:
        with self._lock:
            return list(self._rows)[:_LOOK_ROWS]

    def seen(self, found: Mapping[int, str], at_s: float) -> list[Fresh]:
        """Take out what is there with the awaited text."""
        fresh = []
        with self._lock:
            for key, text_hash in found.items():
                awaited, since_s = self._rows.get(key, ("", 0.0))
                if awaited == text_hash:
                    del self._rows[key]
                    fresh.append(Fresh(since_s, at_s - since_s))
        return fresh


class Writer:
    """One client of the database: each operation a query of its own, on time if it can."""

    def __init__(
        self, services: Services, outstanding: Outstanding, *, rate: float, number: int, seed: int
    ) -> None:
        self._services = services
        self._outstanding = outstanding
        self._pause_s = 1 / rate
        self._key = number * 10_000_000
        self._maker = RowMaker(seed + number)
        self._random = random.Random(seed + number)  # noqa: S311 - no secret
        self._rows: dict[int, dict[str, Any]] = {}
        self.counts = dict.fromkeys(("new", "edits", "stars", "deletes"), 0)
        self.late_s = 0.0
        """How far behind its schedule this client was at most."""

    def run(self, begin_s: float, duration_s: float) -> None:
        """Write from `begin_s` (monotonic) on, for `duration_s`."""
        turns = int(duration_s / self._pause_s)
        for turn in range(turns):
            due_s = begin_s + turn * self._pause_s
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            self.late_s = max(self.late_s, -wait_s)
            self._turn(begin_s)

    def _turn(self, begin_s: float) -> None:
        draw = self._random
        if draw.random() < NEW or not self._rows:
            self._key += 1
            self._rows[self._key] = self._maker.new(self._key)
            self._count("new")
            self._write(self._key, "CREATE $id CONTENT $fields RETURN NONE", begin_s)
        else:
            key = draw.choice(list(self._rows))
            self._rows[key]["description"] = self._maker.description()
            self._count("edits")
            self._write(key, "UPDATE $id MERGE $fields RETURN NONE", begin_s)
        if draw.random() < STARS:
            self._count("stars")
            self._query(
                "UPDATE $id SET stargazers_count += 1 RETURN NONE", draw.choice(list(self._rows))
            )
        if draw.random() < DELETES and len(self._rows) > 1:
            key = draw.choice(list(self._rows))
            del self._rows[key]
            self._count("deletes")
            self._outstanding.forget(key)
            self._query("DELETE $id RETURN NONE", key)

    def _write(self, key: int, sql: str, begin_s: float) -> None:
        fields = self._rows[key]
        settings = self._services.settings
        values = [fields.get(name) for name in settings.text_fields]
        text_hash = text.text_hash(text.render(values, settings.text_max_tokens))
        self._outstanding.expect(key, text_hash, time.monotonic() - begin_s)
        self._query(sql, key, fields=fields)

    def _query(self, sql: str, key: int, **params: Any) -> None:
        self._services.store.database.query(sql, id=record("repo", key), **params)

    def _count(self, what: str) -> None:
        self.counts[what] += 1


class Watcher:
    """Looks every 20 ms which of the outstanding vectors are there."""

    def __init__(self, services: Services, outstanding: Outstanding) -> None:
        self._services = services
        self._outstanding = outstanding
        self._stop = threading.Event()
        self.fresh: list[Fresh] = []

    def run(self, begin_s: float) -> None:
        table = self._services.space.table
        query = self._services.store.database.query
        while not self._stop.wait(_POLL_S):
            ids = [record(table, key) for key in self._outstanding.oldest()]
            if not ids:
                continue
            (found,) = query("SELECT id, text_hash FROM $ids", ids=ids)
            by_key = {one["id"].id: one["text_hash"] for one in found}
            self.fresh += self._outstanding.seen(by_key, time.monotonic() - begin_s)

    def stop(self) -> None:
        self._stop.set()
