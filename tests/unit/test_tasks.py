"""The code of tasks/: short tasks, no hidden state, and workarounds that can be deleted one day."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASK_FILES = [ROOT / "tasks" / name for name in ("embed.py", "store.py", "maintenance.py")]
WORKAROUNDS = sorted(
    path for path in (ROOT / "tasks" / "workarounds").glob("*.py") if path.stem != "__init__"
)
SOURCES = sorted((ROOT / "tasks").rglob("*.py"))

MAX_TASK_LINES = 25
MUTABLE = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def is_task(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(one).startswith("app.task(") for one in function.decorator_list)


def test_the_three_files_have_the_five_tasks() -> None:
    found = [one.name for path in TASK_FILES for one in functions(path) if is_task(one)]
    assert sorted(found) == [
        "embed_batch",
        "maintain_index",
        "reconcile",
        "store_embeddings",
        "sweep_backlog",
    ]


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.stem)
def test_a_task_and_its_helpers_have_at_most_25_lines(path: Path) -> None:
    for function in functions(path):
        if function.name != "register":  # it holds the tasks
            lines = (function.end_lineno or 0) - function.lineno + 1
            assert lines <= MAX_TASK_LINES, f"{path.name}:{function.name} has {lines} lines"


@pytest.mark.parametrize("path", WORKAROUNDS, ids=lambda path: path.stem)
def test_a_workaround_says_what_is_wrong_upstream_and_when_it_can_go(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    parts = re.split(r"^(Upstream|Issue|Delete when): ", docstring, flags=re.MULTILINE)
    assert parts[1::2] == ["Upstream", "Issue", "Delete when"]
    assert re.search(r"\b(Celery|Kombu|billiard) \d+\.\d+", parts[2])
    assert re.search(r"\bissues? \d+|none known|the same", parts[4])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_state_is_kept_in_a_module_or_a_class(path: Path) -> None:
    """State is on the app (`tasks.base.AppState`), so that two apps in a process share none.

    Capitals name constants, which nothing changes.
    """
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    bodies = [tree.body, *(one.body for one in ast.walk(tree) if isinstance(one, ast.ClassDef))]
    for statement in (one for body in bodies for one in body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            mutable = isinstance(statement.value, MUTABLE) or (
                isinstance(statement.value, ast.Call)
                and ast.unparse(statement.value.func) not in ("structlog.get_logger", "re.compile")
            )
            names = [ast.unparse(one) for one in targets]
            assert not mutable or all(name.lstrip("_").isupper() for name in names), names


def test_nothing_is_kept_by_the_id_of_an_app() -> None:
    assert [path.name for path in SOURCES if re.search(r"\bid\(", path.read_text())] == []
