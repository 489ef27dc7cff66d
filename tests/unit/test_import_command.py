"""`embed-star import`, with a sink in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from embed_star.cli import import_, import_github, import_pages
from embed_star.errors import ConfigError, InputFileError, StoreUnavailable
from embed_star.importing.repo import Repo, Row
from embed_star.settings import Settings


class MemorySink:
    """Works like the store: merges rows; can be told to fail from a page on."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.pages: list[int] = []
        self.lanes: set[int] = set()
        self.opened = 0
        self.fails_at_page = -1

    def check_rights(self) -> None:
        pass

    def etags(self, keys: Sequence[str]) -> list[str]:
        return [self.repos.get(key, {}).get("readme_etag", "") for key in keys]

    def rows(self) -> Iterator[Row]:
        for line, (key, fields) in enumerate(list(self.repos.items()), 1):
            yield Row(line, Repo(key, {"full_name": fields["full_name"]}))

    def upsert_repos(self, rows: Sequence[tuple[str, dict[str, Any]]], *, lane: int) -> int:
        if len(self.pages) == self.fails_at_page:
            raise StoreUnavailable("SurrealDB went away")
        assert len({key for key, _ in rows}) == len(rows)
        self.pages.append(len(rows))
        self.lanes.add(lane)
        for key, fields in rows:
            self.repos[key] = {**self.repos.get(key, {}), **fields}
        return len(rows)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemorySink:
    one = MemorySink()

    @contextmanager
    def open_sink(settings: Settings) -> Iterator[MemorySink]:
        assert settings.db_pass.get_secret_value() == "made-up"
        one.opened += 1
        yield one

    monkeypatch.setattr(import_, "open_sink", open_sink)
    monkeypatch.setenv("DB_PASS", "made-up")
    monkeypatch.chdir(tmp_path)
    return one


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(import_.command, args, input=stdin)


def lines(count: int) -> str:
    return "".join(f'{{"full_name":"Own/R{n}","id":{n}}}\n' for n in range(count))


def test_a_file_is_written_in_pages_and_summed_up(sink: MemorySink) -> None:
    Path("stars.jsonl").write_text(lines(1234))
    result = run("stars.jsonl")
    assert result.exit_code == 0, result.output
    assert result.stdout == "stars.jsonl: 1,234 rows read, 1,234 written, 0 duplicates, 0 bad\n"
    assert result.stderr == "", "no bar when stderr is no terminal"
    assert sink.pages == [500, 500, 234]
    assert sink.lanes == {0}
    assert sink.repos["own/r7"] == {"full_name": "Own/R7", "github_id": 7}


def test_the_lane_can_be_chosen(sink: MemorySink) -> None:
    assert run("-", "--lane", "backfill", stdin=lines(1)).exit_code == 0
    assert sink.lanes == {1}


def test_bad_rows_are_listed_and_the_good_ones_written(sink: MemorySink) -> None:
    Path("s.jsonl").write_text(
        '{"full_name":"a/b"}\n' + "nonsense\n" * 25 + '{"full_name":"c/d"}\n'
    )
    result = run("s.jsonl")
    assert result.exit_code == 1
    assert set(sink.repos) == {"a/b", "c/d"}
    told = result.stderr.splitlines()
    assert told[0] == "s.jsonl:2: not JSON: Expecting value (character 1)"
    assert told[20:] == ["and 5 more"]
    assert "27 rows read, 2 written, 0 duplicates, 25 bad" in result.stdout


def test_the_last_of_duplicates_wins(sink: MemorySink) -> None:
    data = '{"full_name":"a/b","n":1}\n{"full_name":"A/B","n":2}\n'
    result = run("-", "--json", stdin=data)
    assert json.loads(result.stdout) == {
        "source": "standard input",
        "lane": "fresh",
        "dry_run": False,
        "read": 2,
        "written": 1,
        "bad": 0,
        "duplicates": 1,
        "bad_lines": [],
        "left_out": [],
    }
    assert sink.repos == {"a/b": {"full_name": "A/B", "n": 2}}


def test_duplicates_in_other_pages_are_counted_too(
    sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_pages, "PAGE_ROWS", 2)
    summary = json.loads(run("-", "--json", stdin=lines(3) + lines(1)).stdout)
    assert (summary["written"], summary["duplicates"]) == (4, 1)
    assert sink.pages == [2, 2]


def test_long_texts_make_short_pages(sink: MemorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_pages, "PAGE_BYTES", 1000)
    row = json.dumps({"full_name": "a/b%s", "description": "x" * 300})
    run("-", stdin="".join(row % n + "\n" for n in range(10)))
    assert sink.pages == [3, 3, 3, 1]


def test_a_dry_run_needs_no_settings_and_no_database(
    sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DB_PASS")
    result = run("-", "--dry-run", stdin=lines(3))
    assert result.exit_code == 0, result.output
    assert "3 rows read, none written (dry run)" in result.stdout
    assert (sink.opened, sink.pages) == (0, [])


def test_json_holds_the_bad_lines(sink: MemorySink) -> None:
    result = run("-", "--json", stdin='{"full_name":"a/b"}\n{}\n')
    summary = json.loads(result.stdout)
    assert (result.exit_code, summary["bad"], summary["written"]) == (1, 1, len(sink.repos))
    assert summary["bad_lines"][0]["line"] == 2
    assert summary["bad_lines"][0]["reason"].startswith("full_name is missing")


@pytest.mark.parametrize("args", [(), ("file", "--starred", "me")])
def test_exactly_one_source_must_be_named(sink: MemorySink, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert "give either FILE (- is standard input) or --starred USER" in result.stderr
    assert not sink.opened


@pytest.mark.parametrize(
    ("file", "data", "why"),
    [
        ("missing.json", None, "cannot read missing.json: No such file or directory"),
        (".", None, "cannot read .: Is a directory"),
        ("e.json", "", "e.json is empty"),
        ("t.txt", "hello\n", "t.txt is neither JSON Lines"),
        ("\0", None, "cannot read"),
    ],
)
def test_no_such_file_is_one_sentence(
    sink: MemorySink, file: str, data: str | None, why: str
) -> None:
    if data is not None:
        Path(file).write_text(data)
    result = run(file)
    assert isinstance(result.exception, InputFileError)
    assert why in str(result.exception)
    assert sink.opened == 0, "the file is looked at before the database"


def test_settings_are_told_before_anything_is_read(
    sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DB_PASS")
    result = run("-", stdin=lines(1))
    assert isinstance(result.exception, ConfigError)
    assert "DB_PASS is not set" in str(result.exception)
    assert not sink.opened


def test_an_outage_halfway_says_what_was_written(sink: MemorySink) -> None:
    sink.fails_at_page = 1
    result = run("-", stdin=lines(1200))
    assert isinstance(result.exception, StoreUnavailable)
    assert result.stderr == "500 rows were written before this:\n"
    sink.fails_at_page = -1
    assert run("-", stdin=lines(1200)).exit_code == 0
    assert len(sink.repos) == 1200


def test_an_interrupt_says_what_is_written_and_may_be_run_again(
    sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MemorySink.upsert_repos

    def interrupted(self: MemorySink, rows: Any, *, lane: int) -> int:
        if self.repos:
            raise KeyboardInterrupt
        return write(self, rows, lane=lane)

    with monkeypatch.context() as patch:
        patch.setattr(MemorySink, "upsert_repos", interrupted)
        result = run("-", stdin=lines(1200))
    assert (result.exit_code, result.stderr.split("\n")[0]) == (
        1,
        "500 rows were written before this:",
    )
    assert run("-", stdin=lines(1200)).exit_code == 0
    assert len(sink.repos) == 1200


def test_the_examples_have_no_bad_row(sink: MemorySink) -> None:
    examples = Path(__file__).parents[2] / "examples" / "repos.jsonl"
    result = run(str(examples), "--json")
    summary = json.loads(result.stdout)
    assert (result.exit_code, summary["bad"], summary["duplicates"]) == (0, 0, 0)
    assert summary["written"] == summary["read"] == len(sink.repos)


def test_waits_are_told_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    wait = import_github._plain_wait()
    for remaining_s in range(130, -1, -1):
        wait(float(remaining_s), "GitHub's rate limit is used up")
    wait(1.0, "GitHub answered 502")
    assert capsys.readouterr().err.splitlines() == [
        "GitHub's rate limit is used up: trying again in 130 s",
        "GitHub's rate limit is used up: trying again in 70 s",
        "GitHub's rate limit is used up: trying again in 10 s",
        "GitHub answered 502: trying again in 1 s",
    ]
