"""Claims: which rows a run holds, in both layers of locks.

The locks in SurrealDB count: a bulk write is fenced by them. Those in Redis answer faster and
keep most races away from the database. A row is claimed when both layers have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from embed_star.claims.redis_locks import LockLayer
from embed_star.errors import EmbedStarError, FenceLost, RedisUnavailable
from embed_star.events import Emit, RowsContended, ignore_event
from embed_star.models import Key

log = structlog.get_logger(__name__)


class LockRecords(LockLayer, Protocol):
    """The layer that counts. It keeps expired locks until they are taken or deleted."""

    def held(self, keys: Sequence[Key], token: str) -> list[bool]:
        """For each key, whether its lock carries `token`, expired or not."""


class _Unsure(NamedTuple):
    """A claim whose answer was lost: it may hold locks that no run uses."""

    keys: Sequence[Key]
    run_id: str
    until: float


class Claims:
    """Takes, renews and releases the locks of runs. Thread-safe.

    Every method takes a page of keys, makes one round trip to each layer that it needs, and
    returns results in the order of the keys.
    """

    def __init__(
        self,
        redis: LockLayer,
        records: LockRecords,
        *,
        ttl_s: float,
        renew_before_s: float,
        clock: Callable[[], float] = time.monotonic,
        emit: Emit = ignore_event,
    ) -> None:
        """Locks last `ttl_s`; `Claim.renew` acts when `renew_before_s` or less is left."""
        self.ttl_s = ttl_s
        self.renew_before_s = renew_before_s
        self.clock = clock
        self._redis = redis
        self._records = records
        self._emit = emit
        self._unsure: list[_Unsure] = []

    def claim(self, keys: Sequence[Key], run_id: str) -> list[bool]:
        """Lock the free rows among `keys`. For each key: whether both layers locked it.

        Raises RedisUnavailable, with nothing claimed in the database, and StoreUnavailable.
        Claimed rows whose answer was lost are for `release_unsure`.
        """
        first = self._take(self._redis, "redis", keys, run_id)
        candidates = [key for key, won in zip(keys, first, strict=True) if won]
        if not candidates:
            return first
        try:
            second = self._take(self._records, "surrealdb", candidates, run_id)
        except BaseException:
            self._release_in_redis(candidates, run_id)
            raise
        if not all(second):
            lost = [key for key, won in zip(candidates, second, strict=True) if not won]
            self._release_in_redis(lost, run_id)
        answers = iter(second)
        return [won and next(answers) for won in first]

    def renew(self, keys: Sequence[Key], run_id: str) -> list[bool]:
        """Let the run's locks last `ttl_s` from now. For each key: whether the run holds it.

        Raises StoreUnavailable. A failure of Redis is only logged: its layer does not count.
        """
        held = self._records.extend(keys, run_id, self.ttl_s)
        try:
            self._redis.extend(keys, run_id, self.ttl_s)
        except RedisUnavailable as error:
            log.warning("locks_not_extended", reason=str(error))
        return held

    def end_soon(self, keys: Sequence[Key], run_id: str, left_s: float) -> None:
        """Let the run's locks end in `left_s`. Raises RedisUnavailable and StoreUnavailable."""
        if keys:
            self._records.extend(keys, run_id, left_s)
            self._redis.extend(keys, run_id, left_s)

    def held(self, keys: Sequence[Key], run_id: str) -> list[bool]:
        """For each key: whether the run holds it in SurrealDB. Raises StoreUnavailable."""
        return self._records.held(keys, run_id)

    def release(self, keys: Sequence[Key], run_id: str) -> None:
        """Unlock rows, so that they can be claimed at once. Otherwise their locks would expire.

        Raises RedisUnavailable after the locks in the database are released. A second call
        changes nothing, and rows of another run stay locked.
        """
        with suppress(EmbedStarError):
            self._records.release(keys, run_id)
        self._redis.release(keys, run_id)

    def release_written(self, keys: Sequence[Key], run_id: str) -> None:
        """As `release`, for rows whose locks in the database the bulk write has deleted."""
        self._redis.release(keys, run_id)

    def release_unsure(self) -> bool:
        """Release the locks of a claim whose answer was lost; False when there is none.

        Otherwise nobody could claim its rows until the locks end.
        Raises RedisUnavailable and StoreUnavailable, and the claim stays unsure.
        """
        try:
            lost = self._unsure.pop()
        except IndexError:
            return False
        try:
            if self.clock() < lost.until:
                self._records.release(lost.keys, lost.run_id)
                self._redis.release(lost.keys, lost.run_id)
        except BaseException:
            self._unsure.append(lost)
            raise
        return True

    def _take(self, layer: LockLayer, name: str, keys: Sequence[Key], run_id: str) -> list[bool]:
        try:
            won = layer.acquire(keys, run_id, self.ttl_s)
        except BaseException:
            self._unsure.append(_Unsure(keys, run_id, self.clock() + self.ttl_s))
            raise
        if not all(won):
            self._emit(RowsContended(name, won.count(False)))
        return won

    def _release_in_redis(self, keys: Sequence[Key], run_id: str) -> None:
        with suppress(RedisUnavailable):
            self._redis.release(keys, run_id)


@dataclass(slots=True)
class Claim:
    """The rows that a run holds, and until when it holds them.

    Example: `claim = Claim(claims, run_id, keys, until=claims.clock() + 12.0)`, and
    `claim.renew()` before each call under it.
    """

    claims: Claims
    run_id: str
    keys: Sequence[Key]
    until: float
    """When the first of the locks ends, by the clock of `claims`."""
    check: Callable[[], None] = lambda: None
    """Raises an error when the rows are this process' no longer, for another reason."""

    def renew(self) -> None:
        """Make sure that no lock ends within `Claims.renew_before_s`.

        Does nothing but `check` while the locks last longer than that. Raises FenceLost when
        another run has one of the rows: this process stood still for longer than locks last,
        and the other run pays for the row. Raises StoreUnavailable.
        """
        self.check()
        now = self.claims.clock()
        if self.until - now > self.claims.renew_before_s:
            return
        held = self.claims.renew(self.keys, self.run_id)
        if not all(held):
            raise FenceLost(f"{held.count(False)} of {len(held)} locks are another run's now")
        self.until = now + self.claims.ttl_s
