"""What was measured: one line of JSON for each case, and the tables made of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = Path(os.environ.get("FAULTS_RESULTS", Path(__file__).parents[2] / ".faults.jsonl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one case went. `number` is 0 for a random mixture."""

    number: int
    id: str
    name: str
    rows: int
    """In the table at the end."""
    lost: int
    paid_again: int
    allowed: int
    """Inputs that may have been paid for again."""
    recovery_s: float
    within_s: float
    violations: list[str] = field(default_factory=list)

    @property
    def broken(self) -> set[str]:
        """The letters of the promises that were broken."""
        return {one.partition(":")[0] for one in self.violations}

    def assert_kept(self) -> None:
        """No promise was broken."""
        assert not self.violations, f"{self.id}:\n" + "\n".join(self.violations)


def record(result: Result) -> None:
    """Append it to the file."""
    with FILE.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def read() -> list[Result]:
    """All of the file, in the order of the table; of a case that was run twice, the last."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    return sorted({one.id: one for one in results}.values(), key=lambda one: (one.number, one.id))
