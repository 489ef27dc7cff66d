"""Around a case: a user writes, something breaks, is mended, all is quiet, it is judged."""

from __future__ import annotations

import time

from tests.faults.fault import Step, Steps
from tests.faults.results import Result
from tests.faults.scene import Process, Scene
from tests.faults.user import MARKS
from tests.support.checker import Report, Violation
from tests.support.servers import eventually

_PROGRESS_S = 60.0
_POLL_S = 0.05


def run(scene: Scene) -> Result:
    """Run the case of `scene`, and judge it.

    Raises what the case itself asserts. What it finds of the promises is in the result.
    """
    fault, user = scene.fault, scene.user
    if fault.rows:
        user.write(fault.rows)
    steps = fault.steps(scene)
    _next(steps, Step.BROKEN)
    if fault.rows:
        user.begin()
    try:
        if not fault.blocks_user:
            _await_written(scene, fault.rows)
        _next(steps, Step.MENDED)
        mended = time.monotonic()
        _await_written(scene, fault.rows // 2)
    finally:
        user.end()
    quiet = _await_quiet(scene, mended + fault.within_s)
    recovery_s = time.monotonic() - mended
    report = scene.lab.report()
    found = report.violations(paid_again=scene.again, hits=scene.hits)
    found += _unsaid(scene) + _ended(scene)
    if not quiet:
        found.append(Violation("R", f"not quiet within {fault.within_s:g} s"))
    if quiet and not found:
        for step in steps:
            raise AssertionError(f"{fault.id} yields {step} when all is over")
    return _result(scene, report, found, recovery_s)


def _next(steps: Steps, wanted: Step) -> None:
    step = next(steps, None)
    assert step is wanted, f"the case yields {step} where it should yield {wanted}"


def _await_written(scene: Scene, rows: int) -> None:
    until = scene.user.written + rows
    eventually(lambda: scene.user.written >= until, f"{rows} rows are written", _PROGRESS_S)


def _await_quiet(scene: Scene, deadline_s: float) -> bool:
    """Until nothing is pending and nothing locked; False if that was not so in time."""
    while not (scene.lab.is_quiet() and scene.lab.locks() == 0):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _unsaid(scene: Scene) -> list[Violation]:
    """E: something was said that must not be, or not said that must be."""
    found = []
    for process in scene.processes:
        name, output = process.child.name, process.child.output()
        if any(secret in output for secret in scene.secrets()):
            found.append(Violation("E", f"the log of {name} holds a password or a key"))
        if any(mark in output for mark in MARKS):
            found.append(Violation("E", f"the log of {name} holds the text of a row"))
    wanted = scene.fault.says
    if wanted and not any(scene.logged(event) for event in wanted):
        found.append(Violation("E", f"no log has the event {' or '.join(wanted)}"))
    return found


def _ended(scene: Scene) -> list[Violation]:
    """R: processes that ended, and nobody had ended them."""
    return [
        Violation("R", f"{one.child.name} ended: {one.child.describe_end()}: {_last_words(one)}")
        for one in scene.processes
        if one.child.ended.is_set() and not one.doomed
    ]


def _last_words(process: Process) -> str:
    return process.child.output()[-1500:]


def _result(scene: Scene, report: Report, found: list[Violation], recovery_s: float) -> Result:
    fault = scene.fault
    return Result(
        number=fault.number,
        id=fault.id,
        name=fault.name,
        rows=report.rows,
        lost=len(report.lost),
        paid_again=sum(report.paid_again.values()),
        allowed=scene.again,
        recovery_s=round(recovery_s, 2),
        within_s=fault.within_s,
        violations=[str(one) for one in found],
    )
