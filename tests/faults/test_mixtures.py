"""Random mixtures of faults, one for each seed: the promises hold."""

from __future__ import annotations

import os

import pytest

from tests.faults import results
from tests.faults.mixtures import mixture
from tests.faults.runner import run
from tests.faults.scene import Arena, Scene

FIRST = int(os.environ.get("FAULTS_FIRST_SEED", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("FAULTS_SEEDS", "20")))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{seed:04}")
def test_mixture(arena: Arena, seed: int) -> None:
    with Scene(arena, mixture(seed), seed) as scene:
        result = run(scene)
    results.record(result)
    replay = f"make faults SEEDS=1 FIRST_SEED={seed} ONLY=seed"
    assert not result.violations, f"{result.name}\n{result.violations}\nagain: {replay}"
