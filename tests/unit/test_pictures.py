"""The pictures of the documents are what their texts yield."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXTS = sorted((DOCS / "pictures").glob("*.txt"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """`docs/pictures/draw.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("draw", DOCS / "pictures" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    del sys.modules["draw"]
    return module


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_a_picture_is_what_its_text_yields(text: Path, script: ModuleType) -> None:
    drawn = (DOCS / text.with_suffix(".svg").name).read_text(encoding="utf-8")
    assert drawn == script.draw(text.read_text(encoding="utf-8")), "run `make pictures`"


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_nothing_overlaps_or_is_cut_off(text: Path, script: ModuleType) -> None:
    """Each text is within the picture, and no two lines of a column are on each other."""
    picture = script.draw(text.read_text(encoding="utf-8"))
    tree = ElementTree.fromstring(picture)  # noqa: S314  drawn by ourselves
    lines: dict[str, list[float]] = {}
    for element in tree.iter("{http://www.w3.org/2000/svg}text"):
        x, y, words = element.get("x", ""), float(element.get("y", "")), "".join(element.itertext())
        if element.get("class") != "band":
            half = script.width_of(words) / 2
            assert half <= float(x) <= float(tree.get("width", "")) - half, words
        assert y <= float(tree.get("height", "")) - script.MARGIN
        lines.setdefault(x, []).append(y)
    for ys in lines.values():
        assert all(after - before >= 14 for before, after in itertools.pairwise(ys))


def test_a_line_of_another_form_is_refused(script: ModuleType) -> None:
    for line in ("nonsense", "column app: A\napp -> db: x"):
        with pytest.raises(ValueError, match=r"not understood|no such column"):
            script.draw(line)
