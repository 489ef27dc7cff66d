"""The lab finds bugs: each of these is planted in real processes, and the right promise breaks.

The same case without the bug keeps all promises: that is shown by `test_named.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.cases import processes, provider, readmes, redis, surrealdb
from tests.faults.fault import Fault
from tests.faults.planted import (
    acknowledge_early,
    forget_passages,
    forget_to_release,
    never_reconcile,
    no_fence,
    pair_by_position,
    settle_early,
    trust_live,
)
from tests.faults.runner import run
from tests.faults.scene import Arena, Scene

PROMPT_S = 20.0

PLANTED: list[tuple[Callable[[], None], Fault, str, str]] = [
    # The database is the only truth, so a task that nobody hands out again loses nothing:
    # it costs the time until the locks end.
    (acknowledge_early, processes.pool_child_killed_under_long_locks, "R", "not quiet"),
    # Redis forgets what waits in the queue for good. What a killed worker had would come back
    # after the visibility timeout, now and then before its locks end: then nothing is lost.
    (settle_early, redis.flushed, "L", "lost"),
    (no_fence, processes.write_delayed, "W", "stale"),
    (trust_live, surrealdb.last_notification_lost, "L", "lost"),
    (pair_by_position, provider.shuffled, "L", "mismatched"),
    (forget_to_release, provider.shuffled, "R", "locks left"),
    (never_reconcile, readmes.model_changed_among_readmes, "L", "neither a vector nor a failure"),
    (forget_passages, readmes.model_changed_among_readmes, "L", "no passage"),
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("plant", "fault", "promise", "word"), PLANTED, ids=[one[0].__name__ for one in PLANTED]
)
def test_a_planted_bug_is_found(
    arena: Arena, plant: Callable[[], None], fault: Fault, promise: str, word: str
) -> None:
    launcher = (sys.executable, "-m", "tests.faults.planted", plant.__name__)
    with Scene(
        arena,
        replace(fault, within_s=min(fault.within_s, PROMPT_S)),
        celery=(*launcher, "celery", "-A", "embed_star"),
        embed_star=(*launcher, "embed-star"),
    ) as scene:
        result = run(scene)
    found = [one for one in result.violations if one.startswith(f"{promise}: ") and word in one]
    assert found, f"not found, but: {result.violations}"
