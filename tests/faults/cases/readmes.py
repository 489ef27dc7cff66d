"""Rows with READMEs: what strikes a row strikes its passages with it, or not at all."""

from __future__ import annotations

from tests.faults.fault import BATCH_ROWS, IN_FLIGHT, PASSAGES, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.lab import example_readme

TEXTS = 1 + PASSAGES
"""Of each row."""


@fault(
    2,
    "a whole worker is killed, among READMEs",
    again=TEXTS * IN_FLIGHT,
    hits=1,
    readmes=True,
)
def worker_killed_among_readmes(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    scene.kill(scene.workers[0])
    scene.usual()
    yield Step.BROKEN
    scene.worker()
    yield Step.MENDED


@fault(19, "READMEs are edited while they are in flight", readmes=True)
def readmes_edited_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for key in scene.user.keys[-4 * BATCH_ROWS :]:
        scene.lab.edit(key, readme=scene.user.readme(int(key), "edited"))
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(19, "READMEs are replaced by others, and taken away", readmes=True, edits=False)
def readmes_replaced_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    struck = scene.user.keys[-4 * BATCH_ROWS :]
    for key in struck[::2]:
        scene.lab.edit(key, readme=example_readme(*(f"{key} other {n}" for n in range(5))))
    for key in struck[1::2]:
        scene.lab.edit(key, readme="")
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED


@fault(20, "rows with READMEs are deleted while they are in flight", readmes=True)
def readmes_deleted_in_flight(scene: Scene) -> Steps:
    scene.under_way(calls=4)
    for key in scene.user.keys[-4 * BATCH_ROWS :]:
        scene.user.delete(key)
    scene.usual()
    yield Step.BROKEN
    yield Step.MENDED
