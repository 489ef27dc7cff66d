"""A producer in a thread, and what tests watch of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from embed_star.models import Batch, Lane, key_text
from embed_star.produce.leadership import Leadership
from embed_star.produce.live_query import LiveConnection
from embed_star.produce.notifier import Notifier
from embed_star.produce.producer import Producer, ProducerTimings
from embed_star.services.store import target_of
from embed_star.store.client.connection import Connection
from tests.support.servers import PROMPT_S
from tests.support.world import Recorder, World

NEVER_S = 3600.0
OFTEN_S = 0.05
TIMINGS = ProducerTimings(poll_s=NEVER_S, lease_s=NEVER_S, rewind_s=NEVER_S, quiet_rows=1000)


class Arrivals(Recorder):
    """A dispatcher that tells of each row."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: queue.Queue[str] = queue.Queue()

    def dispatch(self, batches: Sequence[Batch], lane: Lane) -> None:
        super().dispatch(batches, lane)
        for batch in batches:
            for row in batch.rows:
                self._keys.put(key_text(row.key))

    def next(self) -> str:
        return self._keys.get(timeout=PROMPT_S)


class ObservedConnection:
    """A real connection, and events for what is done with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.connection: Connection | None = None
        self.listening: queue.Queue[UUID] = queue.Queue()
        self.ended: queue.Queue[UUID] = queue.Queue()

    def open(self) -> LiveConnection:
        self.connection = Connection(target_of(self._world.settings))
        return self

    def listen(self, table: str) -> UUID:
        assert self.connection
        live_id = self.connection.listen(table)
        self.listening.put(live_id)
        return live_id

    def unlisten(self, live_id: UUID) -> None:
        assert self.connection
        self.connection.unlisten(live_id)
        self.ended.put(live_id)

    def next_notification(self, timeout_s: float) -> bool:
        assert self.connection
        return self.connection.next_notification(timeout_s)

    def close(self) -> None:
        assert self.connection
        self.connection.close()


class Running:
    """A producer in a thread."""

    def __init__(
        self, world: World, timings: ProducerTimings, owner: str, live: ObservedConnection | None
    ) -> None:
        self.arrivals = Arrivals()
        self.led = threading.Event()
        self.producer = Producer(
            backlog=world.services.backlog(self.arrivals),
            leadership=Leadership(world.services.leases, owner, timings.lease_s),
            notifier=Notifier(
                world.services.ledger, live.open if live else None, poll_s=timings.poll_s
            ),
            timings=timings,
            on_lead=self.led.set,
        )
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.producer.run()
        except BaseException as error:  # noqa: BLE001 - shown in `stop`
            self._failed.append(error)

    def stop(self) -> None:
        self.producer.stop()
        self._thread.join(PROMPT_S)
        assert not self._thread.is_alive()
        assert self._failed == []


Start = Callable[..., Running]
