"""Restarts a program that ends by itself, a limited number of times."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection

from embed_star.devstack.processes import Child
from embed_star.errors import EmbedStarError

BACKOFF_S = (0.5, 2.0, 5.0)
"""The pause before each restart. Within WINDOW_S there are as many restarts as pauses."""
WINDOW_S = 60.0


class RestartPolicy:
    """Limits the restarts of each program. The caller passes the time."""

    def __init__(
        self, backoff_s: tuple[float, ...] = BACKOFF_S, window_s: float = WINDOW_S
    ) -> None:
        self._backoff_s = backoff_s
        self._window_s = window_s
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    def pause_s(self, name: str, now_s: float) -> float | None:
        """The pause before the restart of `name`, which ended at `now_s`; None: no restart."""
        ends = self._ends[name]
        while ends and ends[0] <= now_s - self._window_s:
            ends.popleft()
        if len(ends) >= len(self._backoff_s):
            return None
        ends.append(now_s)
        return self._backoff_s[len(ends) - 1]


class Supervisor:
    """Waits for children to end, in a thread of its own, from `start` to `finished`.

    It finishes after `request_stop`, or with a `failure`: a child ended too often, or one
    that is not in `restartable`. Before it finishes, it calls `shut_down`.
    """

    def __init__(
        self,
        *,
        is_current: Callable[[Child], bool],
        restartable: Collection[str],
        restart: Callable[[str], None],
        shut_down: Callable[[], None],
        policy: RestartPolicy,
    ) -> None:
        self.failure: EmbedStarError | None = None
        self.finished = threading.Event()
        self._is_current = is_current
        self._restartable = restartable
        self._restart = restart
        self._shut_down = shut_down
        self._policy = policy
        # A SimpleQueue, not an Event: its `put` may be called from a signal handler.
        self._inbox: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._due_s: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch. Children that ended before, and a request to stop, count."""
        self._thread.start()

    def child_ended(self, child: Child) -> None:
        """For `Child(on_end=…)`."""
        self._inbox.put(child)

    def request_stop(self) -> None:
        """Finish soon. Safe in a signal handler; a second call changes nothing."""
        self._inbox.put(None)

    def _run(self) -> None:
        try:
            self.failure = EmbedStarError("the supervision of the processes broke down")
            self._watch()
            self.failure = None
        except EmbedStarError as error:
            self.failure = error
        except OSError as error:  # no process to be had, no log to be written
            self.failure = EmbedStarError(f"a process could not be started again: {error}")
        finally:
            try:
                self._shut_down()
            finally:
                self.finished.set()

    def _watch(self) -> None:
        while True:
            try:
                child = self._inbox.get(timeout=self._next_due_s())
            except queue.Empty:
                self._restart_due()
                continue
            if child is None:
                return
            if self._is_current(child):
                self._on_end(child)

    def _on_end(self, child: Child) -> None:
        now_s = time.monotonic()
        pause_s = None
        if child.name in self._restartable:
            pause_s = self._policy.pause_s(child.name, now_s)
        if pause_s is None:
            raise EmbedStarError(
                f"{child.name} ended by itself ({child.describe_end()}), so everything is "
                f"stopped; its log is {child.log}"
            )
        self._due_s[child.name] = now_s + pause_s

    def _next_due_s(self) -> float | None:
        if not self._due_s:
            return None
        return max(0.0, min(self._due_s.values()) - time.monotonic())

    def _restart_due(self) -> None:
        now_s = time.monotonic()
        for name in [name for name, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[name]
            self._restart(name)
