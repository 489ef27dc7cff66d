"""One producer leads; another takes over when it stops, dies or loses its lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embed_star.errors import EmbedStarError, RedisUnavailable, StoreUnavailable
from embed_star.produce.leadership import LEASE_KEY
from tests.conftest import MakeWorld
from tests.support.running_producer import NEVER_S, OFTEN_S, TIMINGS, Start
from tests.support.servers import PROMPT_S, eventually
from tests.support.world import World

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)  # it is about Redis
class TestLeading:
    BRISK = replace(TIMINGS, poll_s=OFTEN_S, lease_s=1.0)

    def test_one_leads_and_another_takes_over_when_it_stops(
        self, make_world: MakeWorld, start: Start
    ) -> None:
        world = make_world()
        leader = start(world, self.BRISK)
        assert leader.led.wait(PROMPT_S)
        standby = start(make_world(), self.BRISK)
        for key in range(3):
            world.write(key, full_name="x")
            assert leader.arrivals.next() == str(key)
        assert not standby.led.is_set()
        leader.stop()
        world.write("next", full_name="x")
        assert standby.arrivals.next() == '"next"'
        assert standby.led.is_set()
        assert standby.arrivals.keys == ['"next"']

    def test_a_repo_may_have_the_name_of_the_lease(self, world: World, start: Start) -> None:
        producer = start(world, self.BRISK)
        assert producer.led.wait(PROMPT_S)
        world.write(LEASE_KEY, full_name="x")
        assert producer.arrivals.next() == f'"{LEASE_KEY}"'

    def test_a_dead_leader_is_replaced(self, world: World, start: Start) -> None:
        world.services.leases.acquire([LEASE_KEY], "killed", 0.5)
        world.write(1, full_name="x")
        producer = start(world, self.BRISK)
        assert producer.arrivals.next() == "1"

    def test_stopping_releases_the_lease_at_once(self, world: World, start: Start) -> None:
        producer = start(world)
        assert producer.led.wait(PROMPT_S)
        producer.stop()
        assert world.services.leases.acquire([LEASE_KEY], "next", 1.0) == [True]

    def test_a_leader_that_polls_seldom_keeps_its_lease(self, world: World, start: Start) -> None:
        producer = start(world, replace(TIMINGS, lease_s=0.6))
        assert producer.led.wait(PROMPT_S)
        locks, name = world.services.leases, f'{world.services.redis_prefix}lease:"{LEASE_KEY}"'
        renewed = 0
        last = world.services.redis.pttl(name)

        def renewed_often() -> bool:
            nonlocal renewed, last
            left: Any = world.services.redis.pttl(name)
            assert left > 0, "the lease ended under its leader"
            renewed += left > last
            last = left
            return renewed >= 4

        eventually(renewed_often, "the lease is renewed")
        assert locks.acquire([LEASE_KEY], "other", 1.0) == [False]

    @pytest.mark.parametrize(
        "error", [RedisUnavailable("gone"), StoreUnavailable("gone")], ids=repr
    )
    def test_outages_are_waited_out(
        self, world: World, start: Start, error: EmbedStarError
    ) -> None:
        world.write(1, full_name="x")
        world.services.leases.acquire([LEASE_KEY], "keeps it waiting", NEVER_S)
        producer = start(world, self.BRISK)
        producer.arrivals.errors = [error, error]
        world.services.leases.release([LEASE_KEY], "keeps it waiting")
        assert producer.arrivals.next() == "1"
        assert producer.arrivals.errors == []
