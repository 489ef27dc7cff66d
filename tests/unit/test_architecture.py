"""The table of imports in docs/architecture.md says what the test of imports allows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.test_imports import ALLOWED, CORE, PARTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
GROUPS = {"core": CORE, "parts": PARTS}


def documented() -> dict[str, set[str]]:
    """Part → what the page says that it may import."""
    table = PAGE.read_text(encoding="utf-8").split("<!-- imports -->")[1].split("\n\n")[1]
    found = {}
    for row in table.splitlines()[2:]:
        name, _, allowed = (cell.strip() for cell in row.strip("|").split("|"))
        words = re.findall(r"\w+", allowed)
        found[name.strip("`")] = set().union(*(GROUPS.get(word, {word}) for word in words))
    return {name: allowed - {"nothing"} for name, allowed in found.items()}


def as_words(allowed: set[str]) -> str:
    """`allowed` as the page says it."""
    words = []
    for group, members in GROUPS.items():
        if members <= allowed:
            words.append(group)
            allowed = allowed - members
    return ", ".join([*words, *(f"`{name}`" for name in sorted(allowed))]) or "nothing"


def test_the_page_says_what_each_part_may_import() -> None:
    rows = documented()
    said = {name: as_words(rows[name]) for name in ALLOWED if name in rows}
    assert said == {name: as_words(allowed) for name, allowed in ALLOWED.items()}
    assert set(rows) == set(ALLOWED)
