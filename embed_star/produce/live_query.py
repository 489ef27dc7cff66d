"""Listens to the outbox by a live query, where the server has live queries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import structlog

from embed_star.errors import EmbedStarError, StoreError, StoreUnavailable, WriteConflict
from embed_star.events import Emit
from embed_star.produce import unexpected_errors
from embed_star.store.tables import outbox

log = structlog.get_logger(__name__)

MAX_NOTIFICATIONS_S = 100
"""Notifications a second. At more, the live query is ended until the next `resume`."""
RETRY_S = 1.0


class LiveConnection(Protocol):
    """A connection that can hold a live query: `store.client.connection.Connection`."""

    def listen(self, table: str) -> UUID:
        """Begin a live query; the id for `unlisten`. Raises StoreError where there is none."""

    def unlisten(self, live_id: UUID) -> None:
        """End it. Raises StoreUnavailable."""

    def next_notification(self, timeout_s: float) -> bool:
        """Wait for a notification; False when none came. Raises StoreUnavailable."""

    def close(self) -> None:
        """Close the connection."""


class LiveQueryListener:
    """Calls `wake` when a record is written to the outbox. Begins paused.

    It is a hint only: the poll finds whatever it misses. A live query costs the server as
    much for each row as claiming the row does, and in a bulk load the server drops a client
    that reads too slowly. So it is paused while much is under way: finished runs and the
    poll then wake the producer often enough.
    """

    def __init__(
        self,
        connect: Callable[[], LiveConnection],
        wake: Callable[[], None],
        *,
        poll_s: float,
        emit: Emit,
    ) -> None:
        """`poll_s` is logged when the server has no live queries."""
        self._connect = connect
        self._wake = wake
        self._poll_s = poll_s
        self._emit = emit
        self._active = threading.Event()
        self._stopped = threading.Event()

    def pause(self) -> None:
        """End the live query soon. A second call changes nothing."""
        self._active.clear()
        if self._stopped.is_set():  # otherwise `run` would wait for another `resume`
            self._active.set()

    def resume(self) -> None:
        """Listen. A second call changes nothing."""
        self._active.set()

    def stop(self) -> None:
        """End `run` soon. From another thread."""
        self._stopped.set()
        self._active.set()

    def run(self) -> None:
        """Listen until `stop`, or until the server refuses live queries. Raises nothing."""
        while not self._stopped.is_set():
            try:
                if not self._use_one_connection():
                    return
            except Exception as error:  # noqa: BLE001 - the next connection may not meet it
                unexpected_errors.report(error, "doorbell", RETRY_S, self._emit)
                self._stopped.wait(RETRY_S)

    def _use_one_connection(self) -> bool:
        """Listen on one connection as long as it works; whether to open another one."""
        try:
            connection = self._connect()
        except EmbedStarError as error:
            log.warning("doorbell_waits", reason=str(error))
            self._stopped.wait(RETRY_S)
            return True
        try:
            while not self._stopped.is_set():
                self._listen(connection)
        except StoreUnavailable as error:
            # A server also ends a connection so to which it could not send fast enough.
            log.info("live_query_lost", reason=str(error))
            self._stopped.wait(RETRY_S)
        except WriteConflict:
            pass
        except StoreError as error:
            log.info("no_live_queries", reason=str(error), poll_s=self._poll_s)
            return False
        finally:
            connection.close()
        return True

    def _listen(self, connection: LiveConnection) -> None:
        """Call `wake` for each notification, until paused or stopped."""
        self._active.wait()
        live_id = connection.listen(outbox.TABLE)
        self._wake()  # for records written while nobody listened
        since, heard = time.monotonic(), 0
        while self._active.is_set() and not self._stopped.is_set():
            if not connection.next_notification(0.5):
                continue
            self._wake()
            if time.monotonic() - since > 1.0:
                since, heard = time.monotonic(), 0
            heard += 1
            if heard >= MAX_NOTIFICATIONS_S:
                self.pause()
        connection.unlisten(live_id)
