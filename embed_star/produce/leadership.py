"""Elects a leader: of several producers, the one that holds a lease in Redis leads."""

from __future__ import annotations

import time

from embed_star.claims.redis_locks import LockLayer

LEASE_KEY = "leader"


class Leadership:
    """One candidate's lease: a lock that its holder keeps extending."""

    def __init__(self, locks: LockLayer, owner: str, lease_s: float) -> None:
        self._locks = locks
        self._owner = owner
        self._lease_s = lease_s
        self._renewed = float("-inf")

    def hold(self) -> bool:
        """Take or extend the lease; False while another owner holds it.

        Asks Redis at most once in a third of the lease. Raises RedisUnavailable.
        """
        now = time.monotonic()
        if now - self._renewed < self._lease_s / 3:
            return True
        extended = self._locks.extend([LEASE_KEY], self._owner, self._lease_s)[0]
        leads = extended or self._locks.acquire([LEASE_KEY], self._owner, self._lease_s)[0]
        self._renewed = now if leads else float("-inf")
        return leads

    def resign(self) -> None:
        """Release the lease, so that another one can lead at once.

        Changes nothing when another owner holds it. Raises RedisUnavailable.
        """
        self._renewed = float("-inf")
        self._locks.release([LEASE_KEY], self._owner)
