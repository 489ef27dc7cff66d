"""Everything wired to real servers, with what tests ask of it in one word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from embed_star.embed import text
from embed_star.embed.passages import readme_hash, row_hash
from embed_star.models import Batch, Key, Lane, Outcome, Space, Status, key_text
from embed_star.produce.backlog import Backlog
from embed_star.services import RECONCILE_PAGE_ROWS, Services
from embed_star.settings import Settings
from embed_star.store.tables.checkpoints import Phase
from embed_star.store.tables.event import EVENT
from embed_star.store.tables.outbox import Entry
from embed_star.store.tables.passages import has_passages
from embed_star.values import RecordID, Table
from tests.support.in_process_provider import InProcessProvider


class Unclaimed:
    """The claim of texts that are no rows': there is no lock to renew."""

    def renew(self) -> None:
        """Nothing to do."""


class Recorder:
    """A dispatcher that keeps the runs, as messages, for the test to carry out."""

    def __init__(self) -> None:
        self.runs: list[tuple[Lane, list[Batch]]] = []
        self.errors: list[Exception] = []
        """Raised by the next dispatches, in order."""
        self.during: Callable[[], None] = lambda: None

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        self.during()
        if self.errors:
            raise self.errors.pop(0)
        messages = json.loads(json.dumps([batch.to_json() for batch in batches]))
        self.runs.append((lane, [Batch.from_json(message) for message in messages]))

    @property
    def batches(self) -> list[Batch]:
        return [batch for _, run in self.runs for batch in run]

    @property
    def keys(self) -> list[str]:
        """The key of every row dispatched, as text, in order."""
        return [key_text(row.key) for batch in self.batches for row in batch.rows]


class World:
    """One database with its schema, and the services of one process on it."""

    def __init__(self, settings: Settings, *, page_rows: int = RECONCILE_PAGE_ROWS) -> None:
        """`page_rows`: how many rows one query of its reconciler reads."""
        self.settings = settings
        self.services = Services(settings, sleep=lambda _: None)
        self.provider = InProcessProvider(settings.dimensions)
        self.services.provider = self.provider  # in place of the settings' one
        self.store = self.services.store
        self.store.migrator.apply()
        self.store.spaces.ensure(self.services.space, settings.text_fields)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("embed_star.services.RECONCILE_PAGE_ROWS", page_rows)
            self.services.reconciler  # noqa: B018 - made, with these pages

    def use_own_provider(self) -> None:
        """The one that the settings name, over HTTP, in place of the one in this process."""
        del self.services.provider
        self.services.provider  # noqa: B018 - made, so that it is closed in the end

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a command finds this database, and its space."""
        names = ("db_url", "db_user", "db_namespace", "db_database", "redis_url")
        return {
            **{name.upper(): str(getattr(self.settings, name)) for name in names},
            "DB_PASS": self.settings.db_pass.get_secret_value(),
            "EMBEDDING_MODEL": self.settings.model,
            "EMBEDDING_DIMENSIONS": str(self.settings.dimensions),
            "TEXT_FIELDS": ",".join(self.settings.text_fields),
        }

    @property
    def space(self) -> Space:
        return self.services.space

    @property
    def table(self) -> str:
        """The vector table."""
        return self.space.table

    def query(self, sql: str, **params: Any) -> list[Any]:
        return self.store.database.query(sql, **params)

    def write(self, key: Key, **fields: Any) -> None:
        """What a user does: write a repo."""
        self.query("UPSERT $id MERGE $fields", id=RecordID("repo", key), fields=fields)

    def write_many(self, count: int) -> list[int]:
        """`count` repos with keys from 0; their keys."""
        rows = [{"id": RecordID("repo", n), "full_name": f"owner/name{n}"} for n in range(count)]
        self.query("INSERT INTO repo $rows RETURN NONE", rows=rows)
        return list(range(count))

    def delete(self, key: Key) -> None:
        self.query("DELETE $id", id=RecordID("repo", key))

    @contextmanager
    def unannounced(self) -> Iterator[None]:
        """What is written within fires no event, as in `surreal import`."""
        (info,) = self.query("INFO FOR TABLE repo")
        self.query("REMOVE EVENT embedding_outbox ON TABLE repo")
        yield
        self.query(info["events"]["embedding_outbox"])

    def outbox(self, *lanes: Lane) -> list[Entry]:
        """All that is pending in the lanes, by default in all of them."""
        return [one for lane in lanes or Lane for one in self.store.outbox.page(lane, "", 10_000)]

    def put(self, lane: int, ulid: str, key: Key = 1, size: int | None = 5) -> None:
        """Add a record to the outbox; of no repo when `key` is None."""
        self.query(
            "CREATE embedding_outbox SET id = $id, repo = $repo, size = $size",
            id=[lane, ulid],
            repo=None if key is None else RecordID("repo", key),
            size=size,
        )

    def put_vector(self, key: Key) -> None:
        """What a restored backup does: add a vector that no run has computed."""
        backup = RecordID(self.table, key)
        self.query("CREATE $id SET vector = [1.0], text_hash = 'x'", id=backup)

    def put_failure(self, key: Key, **fields: Any) -> None:
        """Add a record of a failure, as another space's fleet may have left it."""
        self.query("CREATE $id CONTENT $f", id=RecordID("embedding_failure", key), f=fields)

    def repos(self) -> list[dict[str, Any]]:
        (rows,) = self.query("SELECT * FROM repo")
        return list(rows)

    def vectors(self) -> dict[str, dict[str, Any]]:
        """The records of the vector table by key."""
        (rows,) = self.query("SELECT * FROM $table", table=Table(self.table))
        return {key_text(row["id"].id): row for row in rows}

    def failures(self) -> dict[str, dict[str, Any]]:
        (rows,) = self.query("SELECT * FROM embedding_failure")
        return {key_text(row["id"].id): row for row in rows}

    def locks(self) -> dict[str, str]:
        """Key → token of every record of the lock table."""
        (rows,) = self.query("SELECT * FROM embedding_lock")
        return {key_text(row["id"].id): row["token"] for row in rows}

    def text_of(self, **fields: Any) -> str:
        """The text of a repo with these fields."""
        values = [fields.get(name) for name in self.settings.text_fields]
        return text.render(values, self.settings.text_tokens)

    def claim(self) -> Batch:
        """All that is pending, claimed as one run of one batch; its rows in key order.

        (As they come, records of the same millisecond are in no order.)
        """
        recorder = Recorder()
        self.services.backlog(recorder).dispatch()
        (batch,) = recorder.batches
        return replace(batch, rows=tuple(sorted(batch.rows, key=lambda row: key_text(row.key))))

    def lose(self, batch: Batch, *keys: Key) -> None:
        """What happens to `keys` (default: all) when the run's locks run out."""
        lost = list(keys) or [row.key for row in batch.rows]
        self.store.locks.release(lost, batch.run_id)
        self.services.locks.release(lost, batch.run_id)

    def embed(self, batch: Batch, *, final: bool = True) -> list[Outcome]:
        """The outcomes, as the message brings them."""
        outcomes = self.services.embedder.embed(batch, final=final)
        assert [one.row.key for one in outcomes] == [row.key for row in batch.rows]
        return [Outcome.from_json(json.loads(json.dumps(one.to_json()))) for one in outcomes]

    def save(self, batch: Batch, outcomes: Sequence[Outcome]) -> dict[Status, int]:
        """Store the outcomes of a run; the tally, without zeros."""
        tally = self.services.storer.store(batch.run_id, outcomes)
        return {status: rows for status, rows in tally.items() if rows}

    def carry_out(self, batch: Batch) -> dict[Status, int]:
        """Embed and store."""
        return self.save(batch, self.embed(batch))

    def backlog(self) -> tuple[Backlog, Recorder]:
        """A backlog, and what it dispatches to."""
        recorder = Recorder()
        return self.services.backlog(recorder), recorder

    def settle(self) -> None:
        """Work until nothing is pending; fails when it does not come to an end."""
        for _ in range(50):
            if not self.outbox():
                return
            self.settle_some()
        raise AssertionError(f"still pending: {self.outbox()[:5]}")

    def settle_some(self) -> None:
        """Work at what is pending now."""
        backlog, recorder = self.backlog()
        backlog.dispatch()
        for _, run in recorder.runs:
            outcomes = [one for batch in run for one in self.embed(batch)]
            self.save(run[0], outcomes)

    def reconcile(self) -> int:
        """A whole walk; how many rows it put into the backlog."""
        walk = self.services.reconciler.begin()
        while walk.phase is not Phase.DONE:
            walk = self.services.reconciler.step(walk)
        return walk.found

    def lose_cache(self) -> None:
        """What an empty Redis, and processes that are started anew, are like."""
        self.services.cache._local.clear()
        self.services.cache_redis.flushall()

    def lose_state(self) -> None:
        """What a restored dump without our tables, and a new Redis, are like."""
        self.services.redis.flushall()
        (info,) = self.query("INFO FOR DB")
        for table in info["tables"]:
            if table != "repo":
                self.query(f"REMOVE TABLE `{table}`")
        self.query(f"REMOVE EVENT IF EXISTS {EVENT} ON TABLE repo")

    def assert_current(self) -> None:
        """Promise L: each repo has its current vector or a failure of this text."""
        repos, vectors, failures = self.repos(), self.vectors(), self.failures()
        keys = {key_text(repo["id"].id) for repo in repos}
        for repo in repos:
            key = key_text(repo["id"].id)
            readme = repo.get("readme") if has_passages(self.settings.text_fields) else None
            of_readme = readme_hash(readme if isinstance(readme, str) else "")
            wanted = row_hash(text.text_hash(self.text_of(**repo)), of_readme)
            got = (failures.get(key) or vectors.get(key) or {}).get("text_hash")
            assert got == wanted, f"repo {key} is not current"
        assert set(vectors) | set(failures) <= keys, "something is left of a deleted repo"
        assert not set(vectors) & set(failures), "a failed repo has a vector"
        assert self.outbox() == []
        assert self.locks() == {}

    def close(self) -> None:
        self.services.close()
