"""Rows with READMEs: what strikes a row strikes its passages with it, or not at all."""

from __future__ import annotations

from tests.faults.fault import BATCH_ROWS, IN_FLIGHT, PASSAGES, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.checker import payments
from tests.support.lab import Lab, example_readme
from tests.support.servers import eventually

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


@fault(
    38,
    "the model is changed while READMEs are embedded, and a worker of each model is killed",
    again=TEXTS * IN_FLIGHT,
    hits=1,
    readmes=True,
)
def model_changed_among_readmes(scene: Scene) -> Steps:
    """The old fleet stays, and stands by. Vectors have another length from here on, so that an old
    one among them would be seen."""
    old = scene.lab
    _await_a_part(scene)
    scene.kill(scene.workers[0])
    retired = [one for one in scene.processes if not one.doomed]
    scene.migrate(EMBEDDING_MODEL=f"{old.settings.model}-new", EMBEDDING_DIMENSIONS="8")
    before = _stored(old)
    scene.usual()
    scene.producer()
    newer = [scene.worker(), scene.worker()]
    for process in retired:
        scene.await_logged("space_retired", [process])
    yield Step.BROKEN
    _await_a_part(scene)
    scene.kill(newer[0])
    scene.usual()
    scene.worker()
    yield Step.MENDED
    assert _stored(old).items() <= before.items()  # those of rows that are gone may go
    ledger = [one for one in scene.provider.ledger() if one["model"] == old.settings.model]
    assert max(payments(ledger).values()) <= 2  # a worker was killed


def _await_a_part(scene: Scene) -> None:
    """Until some rows have vectors of their READMEs, and others are with the provider."""
    eventually(lambda: bool(_stored(scene.lab)), "a part is embedded", 30.0)
    scene.under_way(calls=4)
    assert not scene.lab.is_quiet()


def _stored(lab: Lab) -> dict[str, str]:
    """The run of each vector and passage in a space."""
    space = lab.services.space
    tables = (space.table, space.passages_table)
    found = lab.query(";".join(f"SELECT id, run FROM {table}" for table in tables))
    return {str(one["id"]): one["run"] for rows in found for one in rows}
