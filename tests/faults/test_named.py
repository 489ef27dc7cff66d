"""Each fault of the table, by itself: the promises hold."""

from __future__ import annotations

import pytest

from tests.faults import results
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.runner import run
from tests.faults.scene import Arena, Scene


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault(arena: Arena, fault: Fault) -> None:
    with Scene(arena, fault, seed=fault.number) as scene:
        result = run(scene)
    results.record(result)
    result.assert_kept()
