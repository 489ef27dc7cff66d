"""What the glossary, the architecture and the pictures name in code form is in the code."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from embed_star.settings import Settings
from tests.unit.test_docs import SPAN, code_of

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "docs" / name for name in ("glossary.md", "architecture.md")]
PICTURES = sorted((CHECKOUT / "docs" / "pictures").glob("*.txt"))
SOURCES = [*CHECKOUT.glob("embed_star/**/*.py"), *CHECKOUT.glob("tasks/**/*.py")]

ELSEWHERES = {"Session.post": "of requests", "SET NX PX": "of Redis"}
"""Names that are not ours, and whose they are."""
COMMANDS = ("embed-star ", "make ", "celery ", "python ", "pytest ", "/livez", "/readyz")
"""Beginnings of what other tests look after."""


def names_in(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


@functools.cache
def defined() -> tuple[set[str], dict[str, set[str]]]:
    """All names of modules, classes, functions, constants, and of tables, fields and tasks,
    which are in texts; and class → what it defines: methods, fields, members of an enumeration."""
    names = set(Settings.model_fields) | {name.upper() for name in Settings.model_fields}
    members: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {path.stem, path.parent.name, *names_in(tree.body)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                members[node.name] |= set(names_in(node.body))
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"\w+", node.value))
    for path in CHECKOUT.glob("migrations/*.surql"):
        names |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return names.union(members, *members.values()), members


def is_in_the_code(span: str) -> bool:
    """Whether a file, a member of a class, or a name like that exists."""
    if span in ELSEWHERES or span.startswith(COMMANDS):
        return True
    if (CHECKOUT / span).exists():
        return True
    names, members = defined()
    if "/" in span or re.search(r"\.(py|md|toml|txt|svg)$", span):
        below = "" if (CHECKOUT / span.split("/")[0]).exists() else "embed_star"
        return any(True for _ in (CHECKOUT / below).glob(span.rstrip("/")))
    if found := re.fullmatch(r"([A-Z]\w*)\.(\w+)(\(.*\))?", span):
        return found[2] in members.get(found[1], set())
    return span.partition("(")[0].partition("=")[0] in names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_name_in_code_form_exists(path: Path) -> None:
    spans = code_of(path.read_text(encoding="utf-8")).spans
    assert len(spans) > 20
    assert [span for span in spans if not is_in_the_code(span)] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_name_in_a_picture_exists(path: Path) -> None:
    lines = [one for one in path.read_text(encoding="utf-8").splitlines() if one[:1] != "#"]
    spans = [span for line in lines for span in SPAN.findall(line)]
    assert spans
    assert [span for span in spans if not is_in_the_code(span)] == []


def test_a_term_of_the_glossary_has_two_lines() -> None:
    page = (CHECKOUT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [part.splitlines() for part in page.split("\n\n") if part.startswith("**")]
    assert len(terms) > 50
    for lines in terms:
        assert len(lines) == 2, lines
        assert lines[0].endswith("\\"), "else both lines are shown as one"
        assert lines[1].startswith("Elsewhere: "), lines


@pytest.mark.parametrize(
    "span", ["Nothing.here", "Batch.nothing", "no_such_name_x", "embed_star/none.py"]
)
def test_a_name_that_is_gone_is_found(span: str) -> None:
    assert not is_in_the_code(span)
