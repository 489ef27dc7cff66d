"""Looks at rows, vectors, failures and the provider's ledger, and says which promise is broken.

Independent of the pipeline: it reads the tables with queries of its own and knows what
the scripted provider answers for each text. `check` is for the end of a run, when all is
quiet; what it finds is data, `Report.assert_kept` is the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.embed import text
from embed_star.embed.passages import readme_hash, row_hash, split
from embed_star.models import Key, is_usable, key_text
from embed_star.services import Services
from embed_star.values import printed
from tests.support.scripted_answers import vector_for

_PAGE_ROWS = 1000
_SHOWN = 5

Promise = Literal["L", "P", "W", "E", "R"]
"""Nothing lost, paid once, no going back, clear errors, recovered in time."""

_CHECKS: dict[str, Promise] = {"lost": "L", "mismatched": "L", "stale": "W", "orphaned": "W"}
"""Lists of a `Report`, and the promise that each is about."""


class Violation(NamedTuple):
    """A promise that was broken, and how."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """What is there, and what is wrong with it. Sentences name a row by its key, no text."""

    rows: int
    embedded: int
    failed: Mapping[str, str]
    """Key → reason."""
    pending: int
    locks: int
    paid: Counter[str]
    """Text → how often a vector of it was paid for."""
    lost: Sequence[str] = ()
    """L: eligible rows with neither a vector nor a failure."""
    stale: Sequence[str] = ()
    """W: rows whose vector or failure is of another text than they have."""
    mismatched: Sequence[str] = ()
    """L: rows whose vector is not what the provider answers for their text."""
    orphaned: Sequence[str] = ()
    """W: vectors, passages and failures of rows that do not exist, or have others."""

    @property
    def paid_again(self) -> Counter[str]:
        """P: text → payments after the first."""
        return Counter({one: times - 1 for one, times in self.paid.items() if times > 1})

    def violations(self, *, paid_again: int = 0, hits: int = 0) -> list[Violation]:
        """What breaks promises L, P, W and R; nothing may be under way any more.

        `paid_again` is how many inputs, in all, may have been paid for more than once:
        those that were in flight when a fault hit. `hits` is how many faults there were:
        no text may have been paid for more than 1 + `hits` times.
        """
        found = [
            Violation(promise, f"{len(rows)} {name}: {'; '.join(rows[:_SHOWN])}")
            for name, promise in _CHECKS.items()
            if (rows := getattr(self, name))
        ]
        if self.pending:
            found.append(Violation("R", f"{self.pending} outbox records left"))
        if self.locks:
            found.append(Violation("R", f"{self.locks} locks left"))
        again = sum(self.paid_again.values())
        most = max(self.paid.values(), default=0)
        if again > paid_again:
            found.append(Violation("P", f"{again} inputs paid again, at most {paid_again} may be"))
        if most > 1 + hits:
            found.append(Violation("P", f"a text was paid for {most} times after {hits} faults"))
        return found

    def assert_kept(self, *, paid_again: int = 0, hits: int = 0) -> None:
        """There are no `violations`."""
        found = self.violations(paid_again=paid_again, hits=hits)
        assert not found, "\n".join(map(str, found))


class _Wanted(NamedTuple):
    """What should be embedded of a row."""

    text: str
    hash: str
    """Of its text and its README."""
    passages: Sequence[str]


@dataclass(slots=True)
class _Faults:
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)


def name_of(key: Key) -> str:
    """What a report calls a row."""
    return key_text(key) if is_usable(key) else printed(key)


class Checker:
    """Checks one database against one provider's ledger."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def check(self, ledger: Iterable[Mapping[str, Any]]) -> Report:
        """Look at everything, now. `ledger` is `ScriptedProvider.ledger()`."""
        texts = self._texts()
        vectors = {name_of(row["id"].id): row for row in self._rows(self._services.space.table)}
        failures = {name_of(row["id"].id): row for row in self._rows("embedding_failure")}
        passages = self._passages()
        faults = _Faults()
        for key, wanted in texts.items():
            self._judge(key, wanted, vectors.get(key), failures.get(key), faults)
            if key in vectors:
                self._judge_passages(key, wanted.passages, passages.pop(key, {}), faults)
        faults.orphaned += [f"passages of {key}, which has no vector" for key in passages]
        for key in (vectors.keys() | failures.keys()) - texts.keys():
            faults.orphaned.append(f"{key} is no row")
        return Report(
            rows=len(texts),
            embedded=len(vectors),
            failed={key: str(row["reason"]) for key, row in failures.items()},
            pending=self._count("embedding_outbox"),
            locks=self._count("embedding_lock"),
            paid=payments(ledger),
            lost=faults.lost,
            stale=faults.stale,
            mismatched=faults.mismatched,
            orphaned=faults.orphaned,
        )

    def _judge(
        self,
        key: str,
        wanted: _Wanted,
        vector: Mapping[str, Any] | None,
        failure: Mapping[str, Any] | None,
        faults: _Faults,
    ) -> None:
        settled = failure or vector
        if settled is None:
            faults.lost.append(f"{key} has neither a vector nor a failure")
            return
        if failure and vector:
            faults.orphaned.append(f"{key} failed and has a vector")
        if failure and not failure["reason"]:
            faults.lost.append(f"{key} failed without a reason")
        if failure and failure["reason"] == "key_type":
            return  # of no text
        if settled["text_hash"] != wanted.hash:
            faults.stale.append(f"{key} is settled for another text")
        elif vector and not failure and not self._fits(vector, wanted.text):
            faults.mismatched.append(f"{key} has a vector of something else")

    def _judge_passages(
        self,
        key: str,
        wanted: Sequence[str],
        stored: Mapping[int, Mapping[str, Any]],
        faults: _Faults,
    ) -> None:
        for n, passage in enumerate(wanted):
            if n not in stored:
                faults.lost.append(f"{key} has no passage {n}")
            elif stored[n]["text_hash"] != text.text_hash(passage):
                faults.stale.append(f"{key} has another passage {n}")
            elif not self._fits(stored[n], passage):
                faults.mismatched.append(f"{key} has a vector of something else in passage {n}")
        if more := stored.keys() - set(range(len(wanted))):
            faults.orphaned.append(f"{key} has passages {sorted(more)}, too")

    def _passages(self) -> dict[str, dict[int, Mapping[str, Any]]]:
        """Key → number → record."""
        found: dict[str, dict[int, Mapping[str, Any]]] = {}
        for row in self._rows(self._services.space.passages_table):
            key, n = row["id"].id
            found.setdefault(name_of(key), {})[n] = row
        return found

    def _fits(self, vector: Mapping[str, Any], rendered: str) -> bool:
        wanted = vector_for(rendered, self._services.space.dimensions)
        stored = np.asarray(vector["vector"], dtype=np.float32)
        if stored.shape != wanted.shape:
            return False
        # Ollama's answers are decimal, so the last bit may differ. Lengths may where the
        # server does not normalise: then the direction is what counts.
        unit = wanted / np.linalg.norm(wanted)
        return bool(np.allclose(stored, wanted, rtol=1e-6) or np.allclose(stored, unit, atol=1e-6))

    def _texts(self) -> dict[str, _Wanted]:
        """Key → what should be embedded of every row."""
        settings = self._services.settings
        fields = "[" + ", ".join(settings.text_fields) + "]"
        readme = "readme" if "readme" not in settings.text_fields else "NONE"
        return {
            name_of(row["id"].id): _wanted(row, settings.text_tokens)
            for row in self._rows("repo", f"id, {fields} AS f, {readme} AS readme")
        }

    def _rows(self, table: str, fields: str = "*") -> Iterator[Mapping[str, Any]]:
        start = 0
        while True:
            (page,) = self._services.store.database.query(
                f"SELECT {fields} FROM {table} LIMIT $rows START $start",
                rows=_PAGE_ROWS,
                start=start,
            )
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            start += _PAGE_ROWS

    def _count(self, table: str) -> int:
        (rows,) = self._services.store.database.query(f"SELECT count() FROM {table} GROUP ALL")
        return int(rows[0]["count"]) if rows else 0


def _wanted(row: Mapping[str, Any], most: int) -> _Wanted:
    rendered = text.render(row["f"], most)
    readme = row.get("readme")
    readme = readme if isinstance(readme, str) else ""
    of_both = row_hash(text.text_hash(rendered), readme_hash(readme))
    return _Wanted(rendered, of_both, [one.text for one in split(readme, most)])


def payments(ledger: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Text of a row → how often a vector of it was paid for.

    Answers that the provider itself spoiled do not count: each gives a right to one more.
    """
    texts = (
        one
        for entry in ledger
        if entry["paid"] and entry["fault"] in (None, "gzip")
        for one in entry["texts"]
    )
    return Counter(one for one in texts if one != PROBE_TEXT)
