"""The comparison with peers: its rows, its report, and what it says where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import postgres, report
from bench.peers.contenders import new_rows
from bench.peers.report import Killed, Run
from bench.usage import family, family_cpu_s
from embed_star.errors import EmbedStarError

BARE = [Run("bare", "SurrealDB", 500, 0.5, 0, 0.25), Run("bare", "SurrealDB", 500, 0.5, 0, 0.25)]


def a_run(name: str, seconds: float, own_s: float = 1.0, memory_mb: float = 100.0) -> Run:
    return Run(name, "SurrealDB", 1_000, seconds, own_s, 0.5, 10, 1_100, memory_mb)


def test_each_figure_is_the_median_of_its_turns() -> None:
    runs = [a_run("one", 2.0, 3.0), a_run("one", 4.0, 1.0, 300.0), a_run("one", 100.0, 2.0)]
    told = report.tables(runs, BARE, []).splitlines()
    assert told[0].startswith("1,000 rows a turn, the median of 3 turns")
    assert "| one | 250 | 0.25 | 2.00 | 0.50 | 10 | 1.10 | 100 MB |" in told


def test_a_bare_insert_is_told_by_its_rate_and_its_database_only() -> None:
    told = report.tables([a_run("one", 2.0)], BARE, []).splitlines()
    assert told[-1] == "| bare | 1,000 |  |  | 0.50 |  |  |  |"


def test_texts_beyond_the_rows_of_one_that_was_killed_were_paid_again() -> None:
    told = report.tables([a_run("one", 2.0)], BARE, [Killed("one", 1_000, 400, 7.25, 1_100)])
    assert told.splitlines()[-1] == "| one | 400 | 7.2 s | 100 |"


def test_the_figures_take_the_place_of_the_earlier_ones_and_of_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write("new", page)
    report.write("newer", page)
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"


def test_the_page_has_its_markers_once() -> None:
    page = report.DOCUMENT.read_text(encoding="utf-8")
    assert page.count(report.BEGIN) == page.count(report.END) == 1


def test_rows_of_other_numbers_have_other_texts() -> None:
    assert new_rows(0, 50) == new_rows(0, 50)
    texts = {row.text for row in [*new_rows(0, 50), *new_rows(50, 50)]}
    assert len(texts) == 100


def test_without_uv_the_command_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbedStarError, match=r"^the peers need uv, which is not here$"):
        postgres.environment()


def test_packages_that_cannot_be_had_are_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'no such' >&2\nexit 1\n")
    (tmp_path / "uv").chmod(0o755)
    with pytest.raises(EmbedStarError, match=r"^the peers cannot be had: uv said: no such$"):
        postgres.environment()


def test_what_a_process_used_includes_its_children_that_ended() -> None:
    before = family_cpu_s(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "sum(range(20_000_000))"]) as child:
        assert child.pid in family(os.getpid())
    assert family_cpu_s(os.getpid()) - before >= 0.1
