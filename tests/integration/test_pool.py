"""Connections to SurrealDB: bounded, used again, discarded after an error."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from embed_star.errors import (
    AlreadyExists,
    EmbedStarError,
    FenceLost,
    PoolTimeout,
    StoreAuthError,
    StoreError,
    StoreUnavailable,
    WriteConflict,
)
from embed_star.store.client.connection import FENCE, Connection, Target, error_of, parse_version
from embed_star.store.client.pool import Database
from embed_star.values import RecordID
from tests.integration.conftest import MakePool
from tests.support.servers import PROMPT_S


class TestBounds:
    def test_connections_are_used_again(self, make_pool: MakePool) -> None:
        pool = make_pool()
        for _ in range(5):
            with pool.connection() as connection:
                assert connection.query("RETURN 1") == [1]
        stats = pool.stats()
        assert (stats.created_total, stats.idle, stats.active) == (1, 1, 0)

    def test_no_more_than_its_size(self, make_pool: MakePool) -> None:
        pool = make_pool(size=2, wait_s=0.05)
        with pool.connection(), pool.connection():
            assert pool.stats().active == 2
            with pytest.raises(PoolTimeout, match="DB_POOL_SIZE"), pool.connection():
                pass
        assert pool.stats().created_total == 2
        assert (pool.stats().active, pool.stats().idle, pool.stats().waiting) == (0, 2, 0)

    def test_who_waits_gets_what_comes_back(self, make_pool: MakePool) -> None:
        pool = make_pool(size=1, wait_s=PROMPT_S)
        began = threading.Event()

        def ask() -> list[object]:
            began.set()
            with pool.connection() as connection:
                return connection.query("RETURN 2")

        with ThreadPoolExecutor(1) as threads, pool.connection():
            waiting = threads.submit(ask)
            began.wait()
        assert waiting.result() == [2]
        assert pool.stats().created_total == 1

    def test_many_threads_share_few(self, make_pool: MakePool) -> None:
        database = Database(make_pool(size=3, wait_s=PROMPT_S))
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(lambda n: database.query("RETURN $n", n=n), range(100)))
        assert answers == [[n] for n in range(100)]
        stats = database.pool.stats()
        assert stats.created_total <= 3
        assert (stats.active, stats.waiting, stats.errors_total) == (0, 0, 0)

    def test_a_failure_to_connect_takes_no_place(self, make_pool: MakePool, target: Target) -> None:
        pool = make_pool(replace(target, url="ws://127.0.0.1:1"), size=1, wait_s=0.05)
        for attempt in range(1, 4):
            with pytest.raises(StoreUnavailable, match="is it running"), pool.connection():
                pass
            assert (pool.stats().active, pool.stats().errors_total) == (0, attempt)
        assert not pool.check()
        assert pool.stats().health_check_failures_total == 1

    def test_old_connections_are_replaced(self, make_pool: MakePool) -> None:
        passed = [0.0]
        pool = make_pool(max_age_s=60.0, clock=lambda: time.monotonic() + passed[0])
        assert pool.check()
        passed[0] = 59.0
        assert pool.check()
        assert pool.stats().recycled_total == 0
        passed[0] = 61.0
        assert pool.check()
        assert (pool.stats().recycled_total, pool.stats().created_total) == (1, 2)

    def test_closed_connections_are_not_kept(self, make_pool: MakePool) -> None:
        pool = make_pool()
        with pool.connection() as connection:
            pool.close()
        assert connection.broken
        assert pool.stats().idle == 0


class TestErrors:
    def test_a_statement_s_error_spares_the_connection(self, make_pool: MakePool) -> None:
        pool = make_pool()
        with pytest.raises(StoreError), pool.connection() as connection:
            connection.query("THROW 'no'")
        with pool.connection() as again:
            assert again is connection
            assert again.query("RETURN 1") == [1]
        assert pool.stats().errors_total == 0

    def test_any_other_exception_discards_the_connection(self, make_pool: MakePool) -> None:
        pool = make_pool()
        with pytest.raises(KeyboardInterrupt), pool.connection() as connection:
            raise KeyboardInterrupt
        assert connection.broken
        with pool.connection() as again:
            assert again is not connection
        stats = pool.stats()
        assert (stats.created_total, stats.errors_total, stats.active) == (2, 1, 0)

    @pytest.mark.parametrize(
        ("sql", "error"),
        [
            ("THROW 'x'", StoreError),
            ("RETURN 1; THROW 'x'; RETURN 2", StoreError),
            ("BEGIN; CREATE a:1; CREATE a:1; COMMIT", AlreadyExists),
            ("BEGIN; CREATE a:2; THROW 'embed_star: fence lost'; COMMIT", FenceLost),
            ("CREATE a:3 SET x = 1; CREATE a:3; RETURN 1", AlreadyExists),
            ("SELECT FROM WHERE", StoreError),
            ("RETURN fn::no_such_function()", StoreError),
        ],
    )
    def test_no_statement_fails_in_silence(
        self, make_pool: MakePool, sql: str, error: type[EmbedStarError]
    ) -> None:
        database = Database(make_pool())
        # (What a failed transaction made by the way, engine 2.3.10 takes for made.)
        database.query("DEFINE TABLE a")
        with pytest.raises(error):
            database.query(sql)
        assert database.query("SELECT * FROM [1]; RETURN 2")[1] == 2

    def test_a_failed_transaction_did_nothing(self, make_pool: MakePool) -> None:
        database = Database(make_pool())
        database.query("DEFINE TABLE a; CREATE a:1")
        with pytest.raises(AlreadyExists):
            database.query("BEGIN; CREATE a:0; CREATE a:1; CREATE a:2; COMMIT")
        assert database.query("SELECT VALUE id FROM a") == [[RecordID("a", 1)]]

    def test_a_wrong_password_is_said_without_it(self, target: Target) -> None:
        with pytest.raises(StoreAuthError, match="check DB_USER, DB_PASS") as caught:
            Connection(replace(target, password="sk-canary-1"))
        assert "sk-canary-1" not in str(caught.value)
        assert "sk-canary-1" not in repr(replace(target, password="sk-canary-1"))

    @pytest.mark.parametrize(
        ("message", "error"),
        [
            (f"An error occurred: {FENCE}", FenceLost),
            ("Failed to commit transaction: can be retried", WriteConflict),
            ("Transaction conflict: Resource busy", WriteConflict),
            ("Database record `a:1` already exists", AlreadyExists),
            ("IAM error: Not enough permissions", StoreAuthError),
            ("There was a problem with authentication", StoreAuthError),
            ("The session has expired", StoreAuthError),
            ("Parse error: Unexpected token\n  | secret text of a row", StoreError),
            ("", StoreError),
        ],
    )
    def test_are_told_by_what_they_say(self, message: str, error: type[Exception]) -> None:
        made = error_of(message)
        assert type(made) is error
        assert "\n" not in str(made)

    def test_the_server_s_version_is_read(self, make_pool: MakePool) -> None:
        assert Database(make_pool()).version >= (2, 3)
        assert parse_version("surrealdb-3.3.5+20260101.abc") == (3, 3, 5)


class TestConflicts:
    def test_conflicting_writes_all_come_through_in_the_end(self, make_pool: MakePool) -> None:
        database = Database(make_pool(size=8, wait_s=PROMPT_S), conflict_retries=50)
        database.query("CREATE counter:1 SET n = 0")
        start = threading.Barrier(8)

        def count(_: int) -> None:
            start.wait()
            for _ in range(10):
                database.query("UPDATE counter:1 SET n += 1")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
        assert database.query("SELECT VALUE n FROM ONLY counter:1") == [80]
        assert database.pool.stats().errors_total == 0

    def test_end_in_an_error_of_their_own(self, make_pool: MakePool) -> None:
        database = Database(make_pool(), conflict_retries=2)
        with pytest.raises(WriteConflict):
            database.query("THROW 'This transaction can be retried'")
        # A conflict says that nothing was done, so the connection is fine.
        assert database.pool.stats().errors_total == 0


class TestTheSession:
    def test_a_refusal_is_tried_once_with_a_fresh_sign_in(
        self, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = Database(make_pool())
        database.query("RETURN 1")
        query = Connection.query
        refused: list[Connection] = []

        def expired(self: Connection, *arguments: object, **more: object) -> object:
            if not refused:
                refused.append(self)
                raise error_of("The session has expired")  # in the words of 3.3.5
            return query(self, *arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Connection, "query", expired)
        assert database.query("RETURN 2") == [2]
        assert refused[0].broken
        assert database.pool.stats().created_total == 2

    def test_a_lasting_refusal_is_passed_on(self, make_pool: MakePool) -> None:
        database = Database(make_pool())
        with pytest.raises(StoreAuthError):
            database.query("THROW 'Not enough permissions'")
        assert database.pool.stats().active == 0
