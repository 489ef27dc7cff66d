"""What rows, providers and messages say is shown on a terminal, and never obeyed by it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from embed_star.cli import hits, status
from embed_star.observe.logging import configure
from embed_star.observe.terminal import shown
from embed_star.search import Hit
from embed_star.status import Report
from embed_star.values import RecordID
from tests.conftest import MakeSettings
from tests.support.command_line import EMBED_STAR, run_warm
from tests.support.world import World

HOSTILE = (
    "a\nb\r\x1b[2J\x1b]0;title\x07\x9b31m\x7f\0\x08\u202e\u2028[red]x[/red]",
    '\n{"event": "forged", "level": "critical"}',
    "\r2026-01-01 [critical ] forged",
)
STYLES = re.compile(r"\x1b\[[0-9;]*m")
"""What the programs themselves put around their words."""


def assert_harmless(text: str, lines: int | None = None) -> None:
    plain = STYLES.sub("", text)
    left = {one for one in plain if not one.isprintable()} - {"\n", "\t"}
    assert not left, ascii(left)
    if lines is not None:
        assert plain.count("\n") == lines, plain


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield capsys
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@given(st.text())
def test_it_is_printable_and_says_the_same(text: str) -> None:
    assert shown(text).isprintable()
    if "\\" not in text and '"' not in text:
        assert json.loads(f'"{shown(text)}"') == text


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_log_on_a_terminal(log_format: str, words: str, logs: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG", log_format)
    structlog.get_logger("x").warning(words, repo=words, parts=[words], deep={words: words})
    logging.getLogger("celery").error("lost %s", words)
    assert_harmless(logs.readouterr().err, lines=2)


def test_a_traceback_on_a_terminal(logs: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG", "console")
    try:
        raise RuntimeError(HOSTILE[0])
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
    said = logs.readouterr().err
    assert "Traceback" in said
    assert_harmless(said)


@pytest.mark.parametrize("words", HOSTILE)
def test_the_table_of_a_search(words: str) -> None:
    repo = {
        "id": RecordID("repo", words),
        "full_name": words,
        "language": words,
        "description": words,
    }
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    console.print(hits.table([Hit(repo, 0.5)]))
    assert_harmless(out.getvalue(), lines=2)


def test_commands_over_hostile_rows(
    world: World, make_settings: MakeSettings, tmp_path: Path
) -> None:
    hostile = [words.replace("\0", "") for words in HOSTILE]  # the embedded engine takes none
    for words in hostile:
        world.write(words, full_name="")  # has no text, so it fails
        world.write(f"{words}x", full_name="x", description=words, language=words)
    world.settle()
    settings = world.settings
    env = {
        "DB_URL": settings.db_url,
        "DB_PASS": settings.db_pass.get_secret_value(),
        "DB_NAMESPACE": settings.db_namespace,
        "DB_DATABASE": settings.db_database,
        "REDIS_URL": settings.redis_url,
        "EMBEDDING_PROVIDER": "local",
        "EMBEDDING_MODEL": settings.model,
        "EMBEDDING_DIMENSIONS": str(settings.dimensions),
    }
    bad = tmp_path / "rows.jsonl"
    bad.write_text("".join(json.dumps({"full_name": words}) + "\n" for words in HOSTILE))
    key = shown(hostile[0])
    for argv in (("failures",), ("failures", "show", key), ("status",)):
        done = run_warm(*EMBED_STAR, *argv, env=env)
        assert_harmless(done.out + done.err)
    done = run_warm(*EMBED_STAR, "import", "--dry-run", str(bad), env=env)
    assert_harmless(done.out + done.err)


def test_the_table_of_status() -> None:
    found = Report.__new__(Report)
    known = {
        "provider": "p", "model": "m", "dimensions": 8, "embedded": 1, "passages": 1,
        "pending": {},
        "oldest_pending_s": {}, "in_flight": 0, "failed": {HOSTILE[0]: 1}, "done": None,
        "provider_phase": None, "messages_set_aside": 1, "workers": [HOSTILE[1]],
        "problems": [HOSTILE[2]],
    }  # fmt: skip
    for name, value in known.items():
        object.__setattr__(found, name, value)
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200).print(status.table(found))
    assert_harmless(out.getvalue())
    assert "forged" in out.getvalue()
