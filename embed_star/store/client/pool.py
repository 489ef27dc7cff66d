"""A bounded pool of connections, and the queries over it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from embed_star.errors import PoolTimeout, StoreAuthError, StoreError, WriteConflict
from embed_star.store.client.connection import Connection, Target


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A snapshot of the pool. The `_total` fields only grow."""

    active: int = 0
    idle: int = 0
    waiting: int = 0
    created_total: int = 0
    recycled_total: int = 0
    """Connections closed for their age."""
    errors_total: int = 0
    """Connections discarded after an error, and failures to connect."""
    health_check_failures_total: int = 0


class Pool:
    """At most `size` connections, opened when needed, each used by one caller at a time.

    A connection is discarded after an exception, since an answer may still arrive on it,
    unless the exception is the server's complete answer. One older than `max_age_s` is
    replaced, which also renews its sign-in. `connection()` raises PoolTimeout when none is
    free within `wait_s`. Thread-safe.
    """

    def __init__(
        self,
        target: Target,
        *,
        size: int = 8,
        wait_s: float = 10.0,
        max_age_s: float = 1800.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self._size = size
        self._wait_s = wait_s
        self._max_age_s = max_age_s
        self._clock = clock
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        self._stats = PoolStats()
        self._closed = False

    def stats(self) -> PoolStats:
        """The state now."""
        with self._changed:
            return replace(self._stats, idle=len(self._idle))

    @contextmanager
    def connection(self, *, fresh: bool = False) -> Iterator[Connection]:
        """Borrow a connection for the length of a `with`.

        A `fresh` one has just signed in. The idle ones are closed then, since they may be
        as old as the one that was refused.
        """
        connection = self._acquire(fresh)
        try:
            yield connection
        except (StoreError, WriteConflict) as error:
            # The answer came whole, so the connection is fine; a refusal may mean that
            # its session has expired.
            refused = isinstance(error, StoreAuthError)
            self._release(connection, discard=refused or connection.broken)
            raise
        except BaseException:
            self._release(connection, discard=True)
            raise
        self._release(connection, discard=connection.broken)

    def check(self) -> bool:
        """Whether a query succeeds now; counts a failure."""
        try:
            with self.connection() as connection:
                connection.query("RETURN 1")
        except Exception:  # noqa: BLE001 - a health check reports, whatever the reason
            self._count(health_check_failures_total=1)
            return False
        return True

    def recycle(self) -> None:
        """Close the idle connections, so that the next callers sign in again."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._add(recycled_total=len(idle))
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are returned."""
        with self._changed:
            self._closed = True
        self.recycle()

    def _acquire(self, fresh: bool) -> Connection:
        stale: list[Connection] = []
        with self._changed:
            self._wait_for_room()
            connection = None
            while self._idle and connection is None:
                candidate = self._idle.pop()  # the most recently used: the rest can age out
                too_old = self._clock() - candidate.created > self._max_age_s
                if fresh or too_old or candidate.broken:
                    stale.append(candidate)
                else:
                    connection = candidate
            self._add(active=1, recycled_total=len(stale))
        for old in stale:
            old.close()
        return connection or self._connect()

    def _wait_for_room(self) -> None:
        deadline = self._clock() + self._wait_s
        self._add(waiting=1)
        try:
            while self._stats.active >= self._size:
                left = deadline - self._clock()
                if left <= 0:
                    raise PoolTimeout(
                        f"all {self._size} connections to SurrealDB stayed busy for "
                        f"{self._wait_s:g} s; raise DB_POOL_SIZE or lower PARALLEL_WORKERS"
                    )
                self._changed.wait(left)
        finally:
            self._add(waiting=-1)

    def _connect(self) -> Connection:
        try:
            connection = Connection(self.target)
        except BaseException:
            with self._changed:
                self._add(active=-1, errors_total=1)
                self._changed.notify()
            raise
        self._count(created_total=1)
        return connection

    def _release(self, connection: Connection, *, discard: bool) -> None:
        with self._changed:
            keep = not discard and not self._closed
            if keep:
                self._idle.append(connection)
            self._add(active=-1, errors_total=int(discard))
            self._changed.notify()
        if not keep:
            connection.close()

    def _count(self, **changes: int) -> None:
        with self._changed:
            self._add(**changes)

    def _add(self, **changes: int) -> None:
        """Caller holds the lock."""
        self._stats = replace(
            self._stats, **{name: getattr(self._stats, name) + by for name, by in changes.items()}
        )


class Database:
    """Runs queries over a pool, and retries write conflicts with jitter."""

    def __init__(self, pool: Pool, *, conflict_retries: int = 8) -> None:
        self.pool = pool
        self._conflict_retries = conflict_retries
        self._version: tuple[int, ...] | None = None

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version, such as (3, 3, 5); asked once."""
        if self._version is None:
            with self.pool.connection() as connection:
                self._version = connection.version
        return self._version

    def query(self, sql: str, **params: Any) -> list[Any]:
        """The results of all statements of `sql`, in order.

        A write conflict is retried, since its transaction changed nothing. A refusal is
        retried once on a fresh session, since the old one may have expired. Raises
        WriteConflict when the retries are used up, and the errors of `Connection.query`.
        """
        signed_in_again = False
        attempt = 0
        while True:
            try:
                return self._once(sql, params, fresh=signed_in_again)
            except WriteConflict:
                attempt += 1
                if attempt > self._conflict_retries:
                    raise
                time.sleep(random.uniform(0, min(0.5, 0.005 * 2**attempt)))  # noqa: S311 - jitter
            except StoreAuthError:
                if signed_in_again:
                    raise
                signed_in_again = True

    def check_rights(self) -> None:
        """Raise StoreAuthError when the user may only read.

        SurrealDB drops the writes of such a user and answers as if it had done them. It
        refuses only to define or remove something, here a table that never exists.
        """
        self.query("REMOVE TABLE IF EXISTS embedding_rights")

    def close(self) -> None:
        """Close the pool."""
        self.pool.close()

    def _once(self, sql: str, params: Mapping[str, Any], *, fresh: bool) -> list[Any]:
        with self.pool.connection(fresh=fresh) as connection:
            return connection.query(sql, params)
