"""The load test measures a real run, and fails when a promise was broken in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import load
from bench.load import Result
from bench.rows import RowMaker
from bench.stack import Bench
from tests.support.servers import find_surreal


def run(folder: Path, *more: str) -> dict[str, object]:
    """A short run; what it wrote."""
    find_surreal()
    try:
        load.main(
            [
                "--rate",
                "20",
                "--duration",
                "4",
                "--latency-ms",
                "20",
                *more,
                "--output",
                str(folder),
            ]
        )
    finally:
        found: dict[str, object] = json.loads((folder / "load.json").read_text())
        assert (folder / "load.png").read_bytes().startswith(b"\x89PNG")
    return found


def test_a_run_is_measured_and_drawn(tmp_path: Path) -> None:
    found = run(tmp_path, "--workers", "2")
    counts, fresh, samples = found["counts"], found["fresh"], found["samples"]
    assert isinstance(counts, dict)
    assert isinstance(fresh, list)
    assert isinstance(samples, list)
    assert counts["new"] + counts["edits"] == 80
    assert len(fresh) + int(str(found["overtaken"])) == 80
    assert all(0 < one["took_s"] < 30 for one in fresh)
    assert {"redis", "surrealdb", "worker1", "worker2", "beat", "producer"} <= set(
        samples[0]["rss_mb"]
    )
    assert found["fault"] == ""


def test_a_lost_row_fails_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = load._drive

    def and_lose_one(bench: Bench, result: Result, seed: int) -> None:
        drive(bench, result, seed)
        table = bench.services.space.table
        bench.services.store.database.query(
            "DELETE (SELECT VALUE id FROM type::table($table) LIMIT 1)", table=table
        )

    monkeypatch.setattr(load, "_drive", and_lose_one)
    with pytest.raises(SystemExit, match="1 lost"):
        run(tmp_path)


@pytest.mark.parametrize("wrong", [("--rate", "0"), ("--rate", "501"), ("--duration", "3601")])
def test_it_is_bounded(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load.main(list(wrong))
    assert "at most" in capsys.readouterr().err


def test_rows_are_the_same_for_a_seed_and_like_githubs() -> None:
    one, two = RowMaker(3), RowMaker(3)
    rows = [one.new(number) for number in range(500)]
    assert rows == [two.new(number) for number in range(500)]
    lengths = sorted(len(row["description"]) for row in rows)
    assert 40 < lengths[250] < 90
    assert lengths[-1] < 420
    assert len({row["full_name"] for row in rows}) == 500
    assert {None, "Python", "Go"} <= {row["language"] for row in rows}
    assert any(not row["description"].isascii() for row in rows)
