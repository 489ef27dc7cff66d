"""Leadership: a lease that its holder keeps extending."""

from __future__ import annotations

import itertools
from typing import Any

from embed_star.claims.memory import MemoryLocks
from embed_star.produce.leadership import LEASE_KEY, Leadership


class TestLeadership:
    def test_belongs_to_one(self) -> None:
        locks = MemoryLocks()
        one, other = Leadership(locks, "one", 60.0), Leadership(locks, "other", 60.0)
        assert one.hold()
        assert not other.hold()
        assert one.hold()
        one.resign()
        assert other.hold()
        assert not one.hold()

    def test_resigning_without_the_lease_changes_nothing(self) -> None:
        locks = MemoryLocks()
        one, other = Leadership(locks, "one", 60.0), Leadership(locks, "other", 60.0)
        assert one.hold()
        other.resign()
        assert not other.hold()

    def test_is_taken_again_when_redis_forgot_it(self) -> None:
        locks = MemoryLocks(itertools.count(0.0, 0.01).__next__)
        candidate = Leadership(locks, "one", 1e-9)  # asks each time
        assert candidate.hold()
        locks.release([LEASE_KEY], "one")
        assert candidate.hold()

    def test_a_third_of_it_is_not_asked_about(self) -> None:
        asked: list[str] = []

        class Counting(MemoryLocks):
            def extend(self, keys: Any, token: str, ttl_s: float) -> list[bool]:
                asked.append(token)
                return super().extend(keys, token, ttl_s)

        candidate = Leadership(Counting(), "one", 60.0)
        for _ in range(5):
            assert candidate.hold()
        assert asked == ["one"]
