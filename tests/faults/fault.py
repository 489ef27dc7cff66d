"""What a case is: a generator that breaks something, yields, and mends it.

@fault(2, "a whole worker is killed", again=IN_FLIGHT, hits=1)
def worker_killed(scene: Scene) -> Steps:
    scene.kill(scene.workers[0])
    yield Step.BROKEN       # a user goes on writing meanwhile
    yield Step.MENDED       # from here on, recovery is timed until all is quiet
    ...                     # what else must be so in the end
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene

RECOVERY_S = 60.0
"""The bound where the table of faults names no other."""

BATCH_ROWS = 5
WORKER_CALLS = 3
"""Provider calls that a worker has in flight, at most."""

IN_FLIGHT = WORKER_CALLS * BATCH_ROWS
"""Inputs that one worker may be waiting for when it is struck."""

PASSAGES = 3
"""Of each row with a README."""


class Step(Enum):
    """Where a case is when it yields."""

    BROKEN = "broken"
    MENDED = "mended"


Steps = Iterator[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One case. `number` is that of the table in the catalogue."""

    number: int
    name: str
    steps: Callable[[Scene], Steps]
    again: int = 0
    """P: inputs, in all, that may be paid for more than once: those in flight when it hits."""
    hits: int = 0
    """P: how often it may hit one text in flight; so often that text is paid for again."""
    within_s: float = RECOVERY_S
    """R: from the mending until all is quiet."""
    says: tuple[str, ...] = ()
    """E: the events of which one must be in the processes' logs."""
    workers: int = 2
    producers: int = 1
    beats: int = 0
    rows: int = 40
    """That the user writes before it breaks, and as many again before it is mended; 0: the
    case writes its own."""
    blocks_user: bool = False
    """Nobody can write meanwhile: the case itself says how long it lasts."""
    edits: bool = True
    """Whether the user edits and deletes rows, too."""
    readmes: bool = False
    """Whether the user's rows have READMEs of PASSAGES passages each, and edits are of those."""
    options: tuple[str, ...] = ()
    """Of the workers' command line."""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.number:02}-{self.steps.__name__}"


def fault(number: int, name: str, **fields: object) -> Callable[[Callable[[Scene], Steps]], Fault]:
    """Make a `Fault` of a generator."""

    def made(steps: Callable[[Scene], Steps]) -> Fault:
        return Fault(number=number, name=name, steps=steps, **fields)  # type: ignore[arg-type]

    return made
