"""What beat has done from time to time: a sweep, a slice of the reconcile, the index."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from embed_star.errors import StoreUnavailable
from embed_star.models import Lane
from embed_star.produce import vector_index
from embed_star.produce.reconcile_slice import SLICE_S, ReconcileSlice
from embed_star.produce.sweep import DEAD_LOCK_S, Sweep
from embed_star.store.tables.checkpoints import SWEPT, Phase, Progress


@dataclass
class Scene:
    """Scripted parts of a sweep; `log` has what was asked of them, in order."""

    leads: bool = True
    error: Exception | None = None
    log: list[Any] = field(default_factory=list)

    def sweep(self) -> Sweep:
        note = self.log.append

        def clear(older_than_s: float) -> int:
            note(("clear", older_than_s))
            return 3

        def dispatch() -> Any:
            note("dispatch")
            if self.error:
                raise self.error
            return SimpleNamespace(dispatched=40)

        return Sweep(
            lock_table=SimpleNamespace(sweep=clear),  # type: ignore[arg-type]
            leadership=SimpleNamespace(  # type: ignore[arg-type]
                hold=lambda: self.leads, resign=lambda: note("resign")
            ),
            backlog=SimpleNamespace(dispatch=dispatch),  # type: ignore[arg-type]
            timestamps=SimpleNamespace(set=note),  # type: ignore[arg-type]
        )


def test_a_sweep_dispatches_when_no_producer_leads() -> None:
    scene = Scene()
    swept = scene.sweep().run()
    assert (swept.cleared_locks, swept.dispatched) == (3, 40)
    assert scene.log == [("clear", DEAD_LOCK_S), "dispatch", "resign", SWEPT]


def test_a_sweep_dispatches_nothing_beside_a_producer() -> None:
    scene = Scene(leads=False)
    assert scene.sweep().run().dispatched == 0
    assert scene.log == [("clear", DEAD_LOCK_S), SWEPT]


def test_a_sweep_that_fails_lets_others_lead_and_does_not_count() -> None:
    scene = Scene(error=StoreUnavailable("it is down"))
    with pytest.raises(StoreUnavailable):
        scene.sweep().run()
    assert scene.log == [("clear", DEAD_LOCK_S), "dispatch", "resign"]


@dataclass
class Walk:
    """A scripted reconciler of ten pages, its space and its clock: a page takes a second."""

    due: bool = True
    retired: bool = False
    room_for: int = 1000
    """Pages for which the lanes are short enough."""
    claimed_at: int = 1000
    """The page with which the first phase ends, some of its rows being claimed."""
    stop_after: int = 1000
    pages: int = 0

    def step(self, progress: Progress) -> Progress:
        self.pages += 1
        progress = replace(progress, checked=progress.checked + 1)
        if self.pages == self.claimed_at:
            return replace(progress, phase=Phase.VECTORS, claimed=(1,))
        return replace(progress, phase=Phase.DONE) if self.pages == self.length else progress

    length: int = 10

    def run(self) -> Progress | None:
        return ReconcileSlice(
            SimpleNamespace(  # type: ignore[arg-type]
                due=lambda interval_s: self.due and interval_s == 60,
                may_walk=lambda: self.pages < self.room_for,
                begin=Progress,
                step=self.step,
            ),
            SimpleNamespace(is_retired=lambda: self.retired),  # type: ignore[arg-type]
            interval_s=60,
            stopping=lambda: self.pages >= self.stop_after,
            clock=lambda: float(self.pages),
        ).run()


@pytest.mark.parametrize(
    "walk", [Walk(due=False), Walk(retired=True), Walk(room_for=0)], ids=["due", "retired", "full"]
)
def test_a_slice_with_nothing_to_do_reads_no_page(walk: Walk) -> None:
    assert walk.run() is None
    assert walk.pages == 0


@pytest.mark.parametrize(
    ("walk", "pages"),
    [
        (Walk(length=4), 4),
        (Walk(length=1000), int(SLICE_S)),
        (Walk(room_for=3), 3),
        (Walk(stop_after=2), 2),
        (Walk(claimed_at=5), 5),
    ],
    ids=[
        "the walk is done",
        "its time is over",
        "the lanes are long",
        "the process is to end",
        "claimed rows need time",
    ],
)
def test_a_slice_ends_when(walk: Walk, pages: int) -> None:
    progress = walk.run()
    assert progress is not None
    assert progress.checked == walk.pages == pages


@pytest.mark.parametrize(
    ("rows", "pending", "version", "there", "built"),
    [
        (100, 0, (3, 3, 5), False, True),
        (100, vector_index.PENDING_ROWS, (3, 3, 5), False, True),
        (99, 0, (3, 3, 5), False, False),
        (100, vector_index.PENDING_ROWS + 1, (3, 3, 5), False, False),
        (vector_index.WAITED_ROWS, 10**6, (3, 3, 5), False, True),
        (100, 0, (2, 6, 1), False, False),
        (100, 0, (3, 3, 5), True, False),
    ],
    ids=[
        "the backlog is done",
        "a short one is",
        "the table is small",
        "the backlog is long",
        "it has been long for ever",
        "2.x has no index that pays",
        "it is there",
    ],
)
def test_the_index_is_begun_when(
    rows: int, pending: int, version: tuple[int, ...], there: bool, built: bool
) -> None:
    vectors = SimpleNamespace(count=lambda: rows, has_index=lambda: there, build_index=lambda: True)
    outbox = SimpleNamespace(is_longer=lambda lane, most: lane is Lane.BACKFILL and pending > most)
    database = SimpleNamespace(version=version)
    found = vector_index.build_if_due(vectors, outbox, database, 100)  # type: ignore[arg-type]
    assert found is built
