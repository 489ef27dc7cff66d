"""`LockLayer`, held against each of its implementations: memory, Redis, both SurrealDBs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from embed_star.guards.locks import LockLayer

LONG_S = 60.0
SHORT_S = 0.05
KEYS = [1, "1", "a/b", UUID(int=7), ["a", 1, ["b"]], {"x": 1, "y": {"z": "ü"}}, -5, "⟨`';\n"]

Let = Callable[[LockLayer, list[object]], None]


@dataclass
class Clock:
    """A time that passes when it is told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis", "surrealdb"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
