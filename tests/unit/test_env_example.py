"""`.env.example` and docs/settings.md name every setting, in order, with its true default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic.fields import FieldInfo

from embed_star.settings import RootSettings, Settings, load_settings
from embed_star.settings.documentation import env_example, page
from embed_star.settings.model import KEYS

CHECKOUT = Path(__file__).resolve().parents[2]
FIELDS: dict[str, FieldInfo] = {
    name.upper(): field
    for settings in (Settings, RootSettings)
    for name, field in settings.model_fields.items()
}
MUST_BE_SET = {"DB_PASS"}
README = CHECKOUT / "README.md"
PAGE = CHECKOUT / "docs" / "settings.md"
MOST = 48
"""Settings beside the providers' keys: more than these nobody finds their way through."""


class Documented(NamedTuple):
    """A setting as a document shows it. `value` is None where it has no default."""

    name: str
    value: str | None
    meaning: str


def example() -> Iterator[Documented]:
    """The assignments; the comment right above each is its meaning."""
    meaning = ""
    for line in (CHECKOUT / ".env.example").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            yield Documented(match[2], match[3] if match[1] else None, meaning)
        meaning = line.removeprefix("# ") if line.startswith("# ") else ""


def settings_table() -> Iterator[Documented]:
    """The rows of all tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, default, meaning in re.findall(
        r"^\| `([A-Z0-9_]+)` \| ([^|]*) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE
    ):
        value = None if default == "must be set" else default.strip("`")
        yield Documented(name, "" if value == "empty" else value, meaning)


@pytest.fixture(params=[example, settings_table], ids=[".env.example", "docs/settings.md"])
def documented(request: pytest.FixtureRequest) -> list[Documented]:
    return list(request.param())


def test_there_are_not_too_many() -> None:
    assert len(set(FIELDS) - {key.upper() for key in KEYS}) <= MOST


@pytest.mark.parametrize(
    ("path", "written"), [(PAGE, page()), (CHECKOUT / ".env.example", env_example())]
)
def test_is_what_the_code_writes(path: Path, written: str) -> None:
    assert path.read_text(encoding="utf-8") == written, "run: make settings"


def test_the_readme_shows_some_of_the_same_rows() -> None:
    readme = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `[A-Z0-9_]+` \| .* \|$", readme, re.MULTILINE)
    assert 8 <= len(rows) <= 10
    assert set(rows) <= set(page().splitlines())


def test_every_setting_says_what_it_is() -> None:
    for name, field in FIELDS.items():
        assert field.description, name
        assert field.json_schema_extra["unit"], name


def test_names_every_setting_and_no_other(documented: list[Documented]) -> None:
    assert [one.name for one in documented] == list(FIELDS)


def test_says_which_must_be_set(documented: list[Documented]) -> None:
    assert {name for name, field in FIELDS.items() if field.is_required()} == MUST_BE_SET
    assert {one.name for one in documented if one.value is None} == MUST_BE_SET


def test_gives_the_meaning(documented: list[Documented]) -> None:
    for one in documented:
        description = FIELDS[one.name].description
        assert description, one.name
        assert one.meaning.startswith(description), one.name


@pytest.mark.usefixtures("clean_environment")
def test_gives_the_default(documented: list[Documented]) -> None:
    """A process that is given the documented value has the settings of one without it."""
    defaults = load_settings(_env_file=None, db_pass="change-me")
    root_defaults = RootSettings(_env_file=None)
    for one in documented:
        if one.value is None:
            continue
        given = {one.name.lower(): one.value}
        if one.name.lower() in RootSettings.model_fields:
            assert RootSettings(_env_file=None, **given) == root_defaults, one.name
        else:
            settings = load_settings(_env_file=None, db_pass="change-me", **given)
            assert settings == defaults, one.name


@pytest.mark.usefixtures("clean_environment")
def test_the_example_is_a_working_env_file() -> None:
    example = CHECKOUT / ".env.example"
    assert load_settings(_env_file=example).db_pass.get_secret_value() == "change-me"
