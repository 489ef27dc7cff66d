"""A peer that is there and says nothing: everything ends with its deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from embed_star.errors import (
    StoreUnavailable,
)
from embed_star.store.client.connection import Target
from embed_star.store.client.pool import Database
from tests.integration.conftest import MakePool
from tests.support.proxy import Proxy
from tests.support.servers import PROMPT_S


@pytest.fixture
def proxy(target: Target) -> Iterator[Proxy]:
    with Proxy(int(target.url.rpartition(":")[2])) as proxy:
        yield proxy


def through(proxy: Proxy, target: Target, timeout_s: float = 1.0) -> Target:
    url = f"ws://127.0.0.1:{proxy.port}"
    return replace(target, url=url, timeout_s=timeout_s, connect_timeout_s=timeout_s)


class TestHalfOpen:
    def test_a_silent_server_is_given_up_and_found_again(
        self, make_pool: MakePool, target: Target, proxy: Proxy
    ) -> None:
        database = Database(make_pool(through(proxy, target), size=2, wait_s=0.05))
        assert database.query("RETURN 1") == [1]
        proxy.freeze()
        for _ in range(5):  # and no place in the pool is lost
            with pytest.raises(StoreUnavailable, match=r"did not answer in time|cannot reach"):
                database.query("RETURN 2")
        assert database.pool.stats().active == 0
        proxy.thaw()
        database.pool.recycle()
        patient = Database(make_pool(through(proxy, target, timeout_s=PROMPT_S), size=2))
        assert patient.query("RETURN 3") == [3]

    def test_a_late_answer_is_not_taken_for_the_next_one(
        self, make_pool: MakePool, target: Target, proxy: Proxy
    ) -> None:
        pool = make_pool(through(proxy, target))
        with pool.connection() as connection:
            proxy.freeze()
            with pytest.raises(StoreUnavailable):
                connection.query("RETURN 'first'")
            proxy.thaw()
        assert connection.broken
        assert pool.stats().idle == 0
        answers = Database(make_pool(through(proxy, target, timeout_s=PROMPT_S))).query(
            "RETURN 'second'"
        )
        assert answers == ["second"]

    @pytest.mark.timeout(30)
    def test_a_frame_that_nobody_takes_is_given_up(
        self, make_pool: MakePool, target: Target, proxy: Proxy
    ) -> None:
        database = Database(make_pool(through(proxy, target), size=1, wait_s=0.05))
        assert database.query("RETURN 1") == [1]
        proxy.freeze()
        huge = "x" * (32 << 20)  # more than the sockets' buffers hold
        with pytest.raises(StoreUnavailable):
            database.query("RETURN string::len($huge)", huge=huge)
        assert database.pool.stats().active == 0

    def test_a_cut_connection_is_replaced(
        self, make_pool: MakePool, target: Target, proxy: Proxy
    ) -> None:
        database = Database(make_pool(through(proxy, target, timeout_s=PROMPT_S)))
        assert database.query("RETURN 1") == [1]
        proxy.cut()
        with pytest.raises(StoreUnavailable, match="broke"):
            database.query("RETURN 2")
        assert database.query("RETURN 3") == [3]
        assert proxy.accepted == 2
