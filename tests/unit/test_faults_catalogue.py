"""The fault lab leaves no row of the table out, and what it points to is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS, TABLE

CHECKOUT = Path(__file__).parents[2]
CASES = {one.number for one in FAULTS}


def test_the_catalogue_has_every_fault_and_every_case() -> None:
    assert list(TABLE) == list(range(1, 52))
    assert set(TABLE) >= CASES


@pytest.mark.parametrize("number", TABLE)
def test_each_has_a_case_or_a_reason(number: int) -> None:
    row = TABLE[number]
    assert number in CASES or row.tests or row.why_not


@pytest.mark.parametrize("node", [node for row in TABLE.values() for node in row.tests])
def test_every_test_that_it_points_to_exists(node: str) -> None:
    path, *names = node.split("::")
    scope: ast.Module | ast.ClassDef | ast.FunctionDef = ast.parse((CHECKOUT / path).read_text())
    for name in names:
        found = [
            one
            for one in scope.body
            if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name
        ]
        assert found, f"{path} has no {name}"
        scope = found[0]


def test_ids_are_unique() -> None:
    ids = [one.id for one in FAULTS]
    assert len(set(ids)) == len(ids)
