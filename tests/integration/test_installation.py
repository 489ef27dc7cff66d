"""The installation: random, kept in the database, part of every name in Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embed_star.errors import SchemaError
from embed_star.models import Status
from embed_star.services import Services
from tasks.app import create_app
from tasks.dispatch import CeleryDispatcher
from tests.conftest import MakeSettings, MakeWorld
from tests.support.world import World

SERVERS = {"embedding_provider": "openai", "openai_base_url": "http://one:8080/v1"}


class TestTheRecord:
    def test_is_random_and_stays(self, world: World, make_world: MakeWorld) -> None:
        name = world.services.installation
        assert len(name) == 26
        assert world.store.installation.ensure() == ""
        assert make_world().services.installation == name
        world.lose_state()
        anew = make_world().services.installation
        assert anew != name

    def test_eight_migrates_at_once_make_one(self, make_settings: MakeSettings) -> None:
        made = [Services(make_settings()) for _ in range(8)]

        def migrate(services: Services) -> str:
            services.store.migrator.apply()
            services.store.installation.ensure()
            return services.store.installation.name()

        try:
            with ThreadPoolExecutor(8) as threads:
                assert len(set(threads.map(migrate, made))) == 1
        finally:
            for services in made:
                services.close()

    def test_one_that_was_lost_is_made_again(self, world: World) -> None:
        world.query("DELETE embedding_installation")
        with pytest.raises(SchemaError, match="no installation: run `embed-star migrate`"):
            world.store.check()
        name = world.store.installation.ensure()
        assert name
        assert world.store.installation.name() == name
        world.store.check()

    def test_the_settings_may_name_it(self, world: World, make_world: MakeWorld) -> None:
        """Of a copy beside its original, and where Redis' ACL names it."""
        was = world.services.installation
        copy = make_world(installation_id="copy-1")
        with pytest.raises(SchemaError, match=f"{was}, and INSTALLATION_ID says copy-1"):
            copy.store.check()
        assert copy.store.installation.ensure() == "copy-1"
        copy.store.check()
        assert copy.store.installation.ensure() == ""
        assert copy.services.redis_prefix.split(":")[3] == "copy-1"


class TestNames:
    def test_all_in_redis_begin_with_it(self, make_world: MakeWorld) -> None:
        world = make_world(**SERVERS, provider_requests_per_minute=600)
        services = world.services
        services.leases.acquire(["leader"], "one", 60.0)
        world.write_many(3)
        with create_app(world.settings) as app:
            services.backlog(CeleryDispatcher(app)).dispatch()
        world.write("x", full_name="x")
        world.carry_out(world.claim())
        services.rate_limiter.pause(10.0)
        services.dead_letters.add("task", {}, "because")
        names = [name.decode() for name in services.redis.scan_iter()]
        own = (services.redis_prefix, services.redis_prefix.replace(":", ":vector:", 1))
        assert [name for name in names if not name.startswith(own)] == []
        kinds = {name.removeprefix(services.redis_prefix).partition(":")[0] for name in names}
        assert kinds >= {
            "lock",
            "lease",
            "runs",
            "breaker",
            "budget",
            "dead_letters",
            "celery",
            "answer",
        }

    def test_two_with_the_same_settings_do_not_meet(
        self, world: World, make_settings: MakeSettings
    ) -> None:
        """As from two databases: of the second, only what it has in Redis is looked at."""
        with Services(make_settings()) as other:
            other.installation = "other"
            world.services.leases.acquire(["leader"], "one", 60.0)
            assert other.leases.acquire(["leader"], "other", 60.0) == [True]
            world.services.locks.acquire([1], "one", 60.0)
            assert other.locks.acquire([1], "other", 60.0) == [True]
            world.services.ledger.begin("run", 5, 60.0)
            assert other.ledger.counts().in_flight == 0
            vector = np.ones(8, dtype=np.float32)
            world.services.cache.put_many({"hash": vector})
            assert other.cache.get_many(["hash"]) == {}


class TestTheEndpoint:
    @pytest.mark.parametrize(
        ("address", "same"),
        [
            ("http://ONE:8080/v1/", True),
            ("http://user:password@one:8080/v1", True),
            ("http://two:8080/v1", False),
            ("http://one:8081/v1", False),
            ("https://one:8080/v1", False),
            ("http://one:8080/v2", False),
        ],
    )
    def test_is_part_of_what_is_cached(
        self, make_world: MakeWorld, address: str, same: bool
    ) -> None:
        one = make_world(**SERVERS).services
        two = make_world(**SERVERS | {"openai_base_url": address}).services
        one.cache.put_many({"hash": np.ones(8, dtype=np.float32)})
        assert bool(two.cache.get_many(["hash"])) is same
        assert (one.endpoint == two.endpoint) is same
        assert "password" not in two.endpoint

    def test_another_worker_stores_what_a_server_s_neighbour_made(
        self, make_world: MakeWorld
    ) -> None:
        """Each host may ask a server of its own; what is paid for is stored by any worker."""
        embedding = make_world(**SERVERS)
        storing = make_world(**SERVERS | {"openai_base_url": "http://two:8080/v1"})
        embedding.write_many(3)
        batch = embedding.claim()
        outcomes = embedding.embed(batch)
        assert storing.save(batch, outcomes) == {Status.EMBEDDED: 3}
        embedding.assert_current()
        assert max(embedding.provider.paid.values()) == 1
