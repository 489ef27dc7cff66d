"""What only the outbox in SurrealDB has: records that people wrote, and how it is read.

Its contract is held in tests/contract/test_store_outbox.py.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from embed_star.models import Lane
from embed_star.store.client.connection import Connection
from embed_star.store.tables.outbox import ulid_ms
from tests.support.world import World

A = "A" * 26


class TestPages:
    def test_give_no_key_for_what_is_no_repo(self, world: World) -> None:
        world.query("CREATE embedding_outbox SET id = [0, 'X'], repo = other:1, size = 1")
        world.query("CREATE embedding_outbox SET id = [0, 'Y'], repo = 'repo:1', size = 1")
        world.query("CREATE embedding_outbox SET id = [0, 'W'], size = 1")
        world.put(0, "Z")
        page = world.store.outbox.page(Lane.FRESH, "", 10)
        assert [entry.id[1] for entry in page if entry.key is None] == ["W", "X", "Y"]
        assert [entry.id[1] for entry in page if entry.key is not None] == ["Z"]

    def test_records_that_are_no_repo_s_do_not_hide_the_others(self, world: World) -> None:
        rows = [{"id": [0, f"00{n:03}"], "size": 1} for n in range(500)]
        world.query("INSERT INTO embedding_outbox $rows RETURN NONE", rows=rows)
        world.write(1, full_name="x")
        backlog, recorder = world.backlog()
        for _ in range(3):
            backlog.dispatch()
        assert recorder.keys == ["1"]

    def test_a_key_of_an_odd_type_does_not_hide_the_others(self, world: World) -> None:
        world.query("CREATE repo:['a', d'2024-01-01T00:00:00Z'] SET full_name = 'x' RETURN NONE")
        world.write(1, full_name="x")
        backlog, recorder = world.backlog()
        backlog.dispatch()
        assert "1" in recorder.keys
        assert world.store.failures.by_reason() == {"key_type": 1}
        world.query("DELETE repo:['a', d'2024-01-01T00:00:00Z']")
        backlog.dispatch()
        assert world.store.outbox.counts()[Lane.FRESH] == 1  # the other one's

    def test_never_read_more_than_the_range(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        query = Connection.query

        def listen(self: Connection, sql: str, params: object = None, **more: object) -> object:
            asked.append(sql)
            return query(self, sql, params, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Connection, "query", listen)
        world.store.outbox.page(Lane.FRESH, A, 3)
        (sql,) = asked
        assert "[$lane, $after]>..[$lane, $last]" in sql
        assert sql.endswith("LIMIT $rows")
        assert "ORDER" not in sql


def test_the_database_s_ulids_are_of_now(world: World) -> None:
    ((ulid, now),) = world.query("RETURN [rand::ulid(), time::now()]")
    assert abs(ulid_ms(ulid) - now.timestamp() * 1000) < 1000
    assert now.tzinfo is UTC or now.utcoffset() == datetime.now(UTC).utcoffset()
