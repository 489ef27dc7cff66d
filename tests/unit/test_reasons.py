"""Every reason that the code gives has its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embed_star.embed.failure_reasons import REASONS, reason_of

ROOT = Path(__file__).parents[2]


def test_each_code_in_the_sources_has_words_and_a_place_in_the_docs() -> None:
    sources = {
        "calling/validation.py": r'reasons\[.*\] = "(\w+)"',
        "embed/refusals.py": r'"(rejected|too_long)"',
        "embed/work.py": r'"(empty_text|unreadable)"',
        "calling/blame.py": r'"(\w+_(?:provider|answer))"',
        "store/tables/outbox.py": r"reason = '(\w+)'",
    }
    given: set[str] = set()
    for name, pattern in sources.items():
        found = set(re.findall(pattern, (ROOT / "embed_star" / name).read_text()))
        assert found, f"no reason is given in {name}: this test shows nothing now"
        given |= found
    assert given == set(REASONS)
    schema = (ROOT / "docs" / "schema.md").read_text()
    assert not [code for code in REASONS if f"`{code}`" not in schema]


@pytest.mark.parametrize("code", [*REASONS, "of_a_newer_version"])
def test_a_reason_s_words_complete_a_sentence(code: str) -> None:
    for words in reason_of(code):
        assert words
        assert not words[0].isupper() or words[1].isupper()
        assert not words.endswith(".")
