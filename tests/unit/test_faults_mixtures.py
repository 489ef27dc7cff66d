"""A seed of the fault lab is one schedule, the same at all times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.mixtures import KINDS, ROWS, schedule

seeds = st.integers(0, 10**9)


@given(seeds)
def test_the_same_seed_is_the_same_schedule(seed: int) -> None:
    assert schedule(seed) == schedule(seed)


@given(seeds)
def test_everything_is_over_before_the_user_stops(seed: int) -> None:
    strikes = schedule(seed)
    assert strikes
    assert all(0 < one.at < one.until < ROWS and one.kind in KINDS for one in strikes)


def test_another_process_makes_the_same_of_it() -> None:
    """No hash of a string, no order of a set is in it."""
    script = "from tests.faults.mixtures import schedule; print([schedule(n) for n in range(50)])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([schedule(n) for n in range(50)])


def test_each_kind_comes_up() -> None:
    assert {one.kind for seed in range(200) for one in schedule(seed)} == set(KINDS)
