"""Whose fault it is, found out over HTTP: the provider's for all rows, or one row's."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from embed_star.calling.breaker.breaker import Phase
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.embed.refusals import REFUSED_IN_A_ROW
from embed_star.errors import ProviderThrottled
from embed_star.models import Status
from tests.conftest import DIMENSIONS, MakeWorld
from tests.support.scripted_answers import vector_for
from tests.support.scripted_provider import ScriptedProvider
from tests.support.servers import eventually
from tests.support.world import World

OPEN_S = 2.0
"""So long that it is still open when a test looks, on a busy machine too."""
ROWS = 60


@pytest.fixture
def world(make_http_world: MakeWorld) -> World:
    return make_http_world(batch_size=10, breaker_open_s=OPEN_S)


def probes(server: ScriptedProvider) -> int:
    return len(server.ledger()) - len(server.asked())


def settle(world: World) -> None:
    """Work until nothing is pending, over pauses."""

    def is_done() -> bool:
        world.settle_some()
        return not world.outbox()

    eventually(is_done, "nothing is pending", 20.0)
    world.assert_current()


REFUSALS = [
    (400, {"error": {"message": "Budget!", "type": "budget_exceeded", "code": "400"}}),
    (400, {"error": "input_type is missing"}),
    (400, {"error": {"message": "model is not loaded", "code": "model_unloaded"}}),
    (413, {"error": {"message": "too many"}}),
    (422, {"detail": [{"loc": ["body", "input_type"], "msg": "field required"}]}),
]


class TestEverybodyIsRefused:
    @pytest.mark.parametrize(("status", "error"), REFUSALS, ids=lambda one: str(one)[:30])
    def test_the_provider_is_paused_and_no_row_set_aside(
        self, world: World, server: ScriptedProvider, status: int, error: Any
    ) -> None:
        server.script(fail_next=-1, status=status, error=error)
        world.write_many(ROWS)
        with capture_logs() as logs:
            world.settle_some()
        assert world.services.breaker.state().phase is Phase.OPEN
        assert world.failures() == {}
        assert len(world.outbox()) == ROWS
        assert len(server.asked()) == 1
        assert probes(server) == 1
        assert world.locks() == {}
        (said,) = [one for one in logs if one["event"] == "provider_paused"]
        assert f"refuses our own text as well (HTTP {status}" in said["reason"]
        server.script(fail_next=0)
        settle(world)
        assert len(world.vectors()) == ROWS
        assert len(server.asked()) == 1 + ROWS // 10, "and nothing was paid for twice"

    def test_the_error_s_code_is_logged_and_its_prose_is_not(
        self, world: World, server: ScriptedProvider
    ) -> None:
        error = {"message": "sk-secret for owner/name1", "type": "budget_exceeded", "code": "400"}
        server.script(fail_next=-1, status=400, error={"error": error})
        world.write_many(3)
        with capture_logs() as logs:
            world.settle_some()
        assert "(HTTP 400, budget_exceeded)" in str(logs)
        assert "sk-secret" not in str(logs)

    def test_no_row_is_blamed_when_it_begins_within_a_batch(self, make_world: MakeWorld) -> None:
        """One row is refused, and then, in the middle of the search for it, all are."""
        world = make_world(embedding_provider="ollama", embedding_model="m")
        world.write_many(16)
        world.write(1, full_name="poison")
        provider = world.provider
        provider.rejects = lambda text: "poison" in text or len(provider.calls) > 4
        batch = world.claim()
        tally = world.carry_out(batch)
        assert world.failures() == {}
        assert tally[Status.DEFERRED] + tally.get(Status.EMBEDDED, 0) == 16
        assert world.services.breaker.state().phase is Phase.OPEN

    def test_it_is_found_out_early_in_a_long_batch(self, make_world: MakeWorld) -> None:
        world = make_world(embedding_provider="ollama", embedding_model="m")
        world.write_many(100)
        provider = world.provider
        provider.rejects = lambda text: text != PROBE_TEXT or len(provider.calls) > 2
        assert world.carry_out(world.claim()) == {Status.DEFERRED: 100}
        assert len(provider.calls) <= REFUSED_IN_A_ROW + 4
        assert world.failures() == {}

    def test_a_row_that_is_taken_a_moment_later_is_not_blamed(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(fail_next=1, status=400)
        world.write(1, full_name="one row alone")
        world.settle()
        assert world.failures() == {}
        world.assert_current()

    def test_all_rows_are_set_aside_while_another_text_is_answered(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(poison="owner/")
        world.write_many(10)
        world.settle()
        assert len(world.failures()) == 10
        assert world.services.breaker.state().failures == 0

    def test_no_row_is_blamed_where_the_provider_has_no_breaker(
        self, make_world: MakeWorld
    ) -> None:
        world = make_world()
        world.write_many(3)
        world.provider.rejects = lambda _: True
        assert world.carry_out(world.claim()) == {Status.DEFERRED: 3}
        assert world.failures() == {}


class TestARowThatIsRefusedAsIfNobodyWereServed:
    """A firewall in front of the provider, for one."""

    @pytest.mark.parametrize("status", [401, 403, 404, 501])
    def test_is_set_aside_and_its_neighbours_embedded(
        self, world: World, server: ScriptedProvider, status: int
    ) -> None:
        server.script(poison="name3", poison_status=status)
        world.write_many(10)
        with capture_logs() as logs:
            world.settle()
        assert {key: one["reason"] for key, one in world.failures().items()} == {"3": "rejected"}
        assert world.services.breaker.state().failures == 0
        assert [one["reason"] for one in logs if one["event"] == "row_fails_provider"] == [
            "rejected"
        ]

    def test_while_everybody_is_refused_nobody_is_blamed(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(fail_next=-1, status=403, error="<html>")
        world.write_many(3)
        world.settle_some()
        assert world.failures() == {}
        assert world.services.breaker.state().phase is Phase.OPEN
        assert len(server.ledger()) == 2


class TestVectorsThatAreBadForEverybody:
    @pytest.mark.parametrize("kind", ["null_vector", "null", "nan", "zero", "constant"])
    @pytest.mark.parametrize("rows", [1, 12])
    def test_pause_the_provider(
        self, world: World, server: ScriptedProvider, kind: str, rows: int
    ) -> None:
        server.script(**{kind: ""})
        world.write_many(rows)
        with capture_logs() as logs:
            world.settle_some()
        assert world.failures() == {}
        assert len(world.outbox()) == rows
        assert world.services.breaker.state().phase is Phase.OPEN
        assert len(server.ledger()) <= 3
        assert "our own text" in str([one for one in logs if one["event"] == "provider_paused"])
        server.script(bad_vectors={})
        settle(world)
        assert len(world.vectors()) == rows

    def test_a_probe_with_such_a_vector_ends_no_pause(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(null_vector="")
        world.write_many(3)
        world.settle_some()
        eventually(lambda: not world.services.breaker.state().retry_in_s, "it may be probed")
        world.settle_some()
        assert world.services.breaker.state().phase is Phase.OPEN
        assert world.failures() == {}

    def test_good_ones_of_that_call_are_kept(self, make_world: MakeWorld) -> None:
        """A text breaks the server in the middle of a call."""
        world = make_world(embedding_provider="ollama", embedding_model="m")
        world.write_many(6)
        provider = world.provider
        provider.bad = {"name3": math.nan, "name4": math.nan, "name5": math.nan, PROBE_TEXT: 0.0}
        tally = world.carry_out(world.claim())
        assert tally == {Status.EMBEDDED: 3, Status.DEFERRED: 3}
        assert world.failures() == {}
        assert world.services.breaker.state().phase is Phase.OPEN

    def test_one_bad_row_is_still_set_aside(self, world: World, server: ScriptedProvider) -> None:
        server.script(nan="name3")
        world.write_many(5)
        world.settle()
        assert {key: one["reason"] for key, one in world.failures().items()} == {"3": "not_finite"}
        assert len(server.asked()) == 1, "what was paid for is not asked again"


class TestAServerThatDoesNotNormalise:
    @pytest.mark.parametrize("norm", [292.0, 0.004])
    def test_its_vectors_are_made_of_length_1(
        self, world: World, server: ScriptedProvider, norm: float
    ) -> None:
        server.script(norm=norm)
        world.write_many(25)
        world.settle()
        assert world.failures() == {}
        stored = np.float32([one["vector"] for one in world.vectors().values()])
        assert np.allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-5)
        wanted = vector_for("owner/name3", DIMENSIONS)
        assert max(stored @ wanted / np.linalg.norm(wanted)) == pytest.approx(1.0, abs=1e-5)
        assert probes(server) == 1, "it is asked once"
        world.assert_current()

    def test_a_search_finds_what_is_nearest(self, world: World, server: ScriptedProvider) -> None:
        server.script(norm=292.0)
        world.write_many(5)
        world.settle()
        (best, *_) = world.services.search.find("owner/name4", 2)
        assert best.repo["full_name"] == "owner/name4"
        assert best.score == pytest.approx(1.0, abs=1e-5)
        assert world.services.search.find("another query", 1)

    def test_an_odd_length_where_others_are_1_is_the_row_s(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(norm=1.0, scaled={"name2": 50.0})
        world.write_many(4)
        world.settle()
        assert {key: one["reason"] for key, one in world.failures().items()} == {"2": "magnitude"}
        world.assert_current()

    def test_a_vector_without_a_direction_is_not_mended(
        self, world: World, server: ScriptedProvider
    ) -> None:
        server.script(norm=292.0, scaled={"name2": 1e-12})
        world.write_many(4)
        world.settle()
        assert {key: one["reason"] for key, one in world.failures().items()} == {"2": "magnitude"}


class TestATextThatIsThrottledAlone:
    @pytest.fixture(autouse=True)
    def _short_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("embed_star.services.calling.THROTTLED_PAUSE_S", 1.0)

    def test_costs_its_neighbours_nothing_and_is_set_aside_in_the_end(
        self, make_http_world: MakeWorld, server: ScriptedProvider
    ) -> None:
        """429 for a call that is too large, in words that nobody knows."""
        world = make_http_world(batch_size=10, breaker_open_s=OPEN_S)
        server.script(throttle_over=300)
        world.write_many(10)
        world.write(3, full_name="large " * 60)
        problems = 0
        for _ in range(40):
            if not world.outbox():
                break
            work(world)
            problems += world.services.throttled.alone() > 0
            if len(world.vectors()) == 9:
                assert world.services.rate_limiter.state().paused_s == 0.0, "nobody else waits"
        assert {key: one["reason"] for key, one in world.failures().items()} == {"3": "too_long"}
        assert problems > 0
        assert world.services.throttled.alone() == 0
        assert len(world.vectors()) == 9
        most = [one for one in server.ledger() if one["status"] == 429]
        assert len(most) <= 2 + 4 + 6

    def test_a_batch_beyond_the_limit_is_split(
        self, make_http_world: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_http_world(batch_size=10, breaker_open_s=OPEN_S)
        server.script(throttle_over=60)
        world.write_many(10)
        while world.outbox():
            work(world)
        assert world.failures() == {}
        world.assert_current()

    def test_a_limit_that_all_have_reached_blames_nobody(
        self, make_http_world: MakeWorld, server: ScriptedProvider
    ) -> None:
        world = make_http_world(batch_size=10, breaker_open_s=OPEN_S)
        server.script(fail_next=8, status=429)
        world.write_many(3)
        while world.outbox():
            work(world)
        assert world.failures() == {}
        assert world.services.throttled.alone() == 0
        world.assert_current()


def work(world: World) -> None:
    """Work at what is pending, as when pauses and locks are over."""
    client = world.services.redis
    for pattern in ("*budget:*", f"{world.services.redis_prefix}lock:*", "*runs:*"):
        for name in client.scan_iter(pattern):
            client.delete(name)
    world.query("DELETE embedding_lock")
    with suppress(ProviderThrottled):
        world.settle_some()
