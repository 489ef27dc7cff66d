"""A slice of the reconcile: as much of the walk as fits into one short task."""

from __future__ import annotations

import time
from collections.abc import Callable

from embed_star.produce.reconcile import Reconciler
from embed_star.store.tables.checkpoints import Phase, Progress
from embed_star.store.tables.space_watch import SpaceWatch

SLICE_S = 10.0
"""A slice begins no page after this time; beat starts the next slice."""


class ReconcileSlice:
    """Walks a due reconcile for `SLICE_S`. The walk's checkpoint is where the next one begins."""

    def __init__(
        self,
        reconciler: Reconciler,
        space_watch: SpaceWatch,
        *,
        interval_s: float,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval_s` lies between two walks; no page begins while `stopping` is true."""
        self._reconciler = reconciler
        self._space_watch = space_watch
        self._interval_s = interval_s
        self._stopping = stopping
        self._clock = clock

    def run(self) -> Progress | None:
        """Do one slice; the progress after it.

        None when there is nothing to do: no walk is due, the lanes are long, or the space is
        retired. It ends early when rows are claimed that the next slice is to look at again.
        Raises StoreUnavailable and StoreError.
        """
        if self._space_watch.is_retired() or not self._reconciler.due(self._interval_s):
            return None
        progress = self._reconciler.begin()  # from now on, it is put off for so long at most
        if not self._reconciler.may_walk():
            return None
        until = self._clock() + SLICE_S
        while progress.phase is not Phase.DONE and self._clock() < until and not self._stopping():
            progress = self._reconciler.step(progress)
            if progress.waits or not self._reconciler.may_walk():
                break
        return progress
