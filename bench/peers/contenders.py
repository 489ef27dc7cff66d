"""Those who are measured: each takes the same rows, and says what it has of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.peers.postgres import Postgres
from bench.rows import RowMaker
from bench.stack import AUTO, DIMENSIONS, Bench, Shape
from bench.usage import family, resident_bytes
from embed_star.embed import text
from embed_star.errors import EmbedStarError
from embed_star.store.client.codec import record

BATCH_ROWS = 100
"""What `auto` comes to for this provider, and so what the peers are given."""
CALLS = 4

SHAPE = Shape(
    batch_rows=BATCH_ROWS,
    chord_batches=10,
    workers=1,
    threads=CALLS,
    beat=True,
    settings=AUTO,
)
"""The fleet as it comes, with one worker."""

_FIELDS = ("full_name", "description", "language", "topics")


@dataclass(frozen=True, slots=True)
class Row:
    """A repository, and the text that is embedded of it."""

    key: int
    fields: dict[str, object]
    text: str


def new_rows(first: int, count: int) -> list[Row]:
    """Rows like those of GitHub, the same ones for the same numbers."""
    maker = RowMaker(first)
    made = [maker.new(number) for number in range(first, first + count)]
    texts = [text.render([fields[name] for name in _FIELDS], 8000) for fields in made]
    return [Row(first + at, *one) for at, one in enumerate(zip(made, texts, strict=True))]


class Contender(Protocol):
    """One of those measured."""

    name: str

    def begin(self, rows: Sequence[Row]) -> None:
        """Write the rows, then let it go at them."""

    def written(self) -> int:
        """How many of the rows have their vectors."""

    def check(self) -> None:
        """Raises EmbedStarError if it has ended by itself."""

    def kill(self) -> None:
        """End what embeds by SIGKILL, and start it again if nothing of its own does."""

    def end(self) -> None:
        """Nothing of it runs any more that was begun."""

    def own(self) -> list[int]:
        """Its processes."""

    def databases(self) -> list[int]:
        """What it keeps rows and queues in."""


class EmbedStar:
    """The stack of the bench; its supervisor starts a killed worker again."""

    name = "embed_star"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._before = 0

    def begin(self, rows: Sequence[Row]) -> None:
        self._before = self._bench.services.store.vectors.count()
        query = self._bench.services.store.database.query
        with self._bench.producer_held():
            for start in range(0, len(rows), 500):
                page = [
                    {"id": record("repo", r.key), **r.fields} for r in rows[start : start + 500]
                ]
                query("INSERT INTO repo $rows RETURN NONE", rows=page)

    def written(self) -> int:
        return self._bench.services.store.vectors.count() - self._before

    def check(self) -> None:
        """Its supervisor does."""

    def kill(self) -> None:
        os.kill(self._bench.stack.processes["worker1"].pid, 9)

    def end(self) -> None:
        """It is to be idle while others are measured, and is."""

    def own(self) -> list[int]:
        children = self._bench.stack.processes.items()
        return [child.pid for name, child in children if name not in ("redis", "surrealdb")]

    def databases(self) -> list[int]:
        return [self._bench.stack.processes[name].pid for name in ("redis", "surrealdb")]


class Peer:
    """A program over PostgreSQL, that is started for the rows."""

    name = ""
    vectors = "repo_vectors"

    def __init__(self, programs: Path, postgres: Postgres, provider: str, folder: Path) -> None:
        self._programs = programs
        self._postgres = postgres
        self._provider = provider
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, rows: Sequence[Row]) -> None:
        lines = "\n".join(f"{row.key}\t{_copied(row.text)}" for row in rows)
        self._postgres.ask("DROP TABLE IF EXISTS repo CASCADE")
        self._postgres.ask("CREATE TABLE repo (id bigint PRIMARY KEY, text text NOT NULL)")
        self._postgres.ask(f"COPY repo FROM STDIN;\n{lines}\n\\.")
        self._postgres.ask("ANALYZE repo")
        self._prepare()
        self._start()

    def _prepare(self) -> None:
        """What comes before the program is started."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _start(self) -> None:
        env = {"OPENAI_API_KEY": "none", "COCOINDEX_DISABLE_USAGE_TRACKING": "1"}
        env |= {"COCOINDEX_DB": str(self._folder / "cocoindex"), "PATH": os.environ["PATH"]}
        with (self._folder / "peer.log").open("a") as log:
            self._process = subprocess.Popen(
                self._command(), env=env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def written(self) -> int:
        there = self._postgres.ask(f"SELECT to_regclass('{self.vectors}') IS NOT NULL")
        count = f"SELECT count(*) FROM {self.vectors}"
        return int(self._postgres.ask(count)) if there == "t" else 0

    def check(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            told = (self._folder / "peer.log").read_text().strip().splitlines() or ["nothing"]
            raise EmbedStarError(f"{self.name} has ended, and said: {told[-1]}")

    def kill(self) -> None:
        self._stop()
        self._start()

    def end(self) -> None:
        self._stop()
        self._clear()

    def _clear(self) -> None:
        """Take away what it has made."""
        self._postgres.ask(f"DROP TABLE IF EXISTS {self.vectors}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def own(self) -> list[int]:
        return [] if self._process is None else [self._process.pid]

    def databases(self) -> list[int]:
        return [self._postgres.pid]


class Pgai(Peer):
    """Its worker, that looks for rows each second."""

    name = "pgai"
    vectors = "repo_vectors_store"

    def _prepare(self) -> None:
        if not self._postgres.ask("SELECT to_regnamespace('ai')"):
            given = [str(self._programs / "pgai"), "install", "-d", self._postgres.url]
            subprocess.run(given, check=True, capture_output=True)
        self._postgres.ask(
            "SELECT ai.create_vectorizer('repo'::regclass, loading => ai.loading_column('text'),"
            f" embedding => ai.embedding_openai('bench-model', {DIMENSIONS},"
            f" base_url => '{self._provider}'), chunking => ai.chunking_none(),"
            " formatting => ai.formatting_python_template('$chunk'),"
            f" processing => ai.processing_default({BATCH_ROWS}, {CALLS}),"
            " destination => ai.destination_table('repo_vectors'),"
            " indexing => ai.indexing_none(), scheduling => ai.scheduling_none())"
        )

    def _clear(self) -> None:
        # Its triggers are on the table of the rows, so it goes before that.
        self._postgres.ask("SELECT ai.drop_vectorizer(id, drop_all => true) FROM ai.vectorizer")

    def _command(self) -> list[str]:
        given = ["vectorizer", "worker", "-d", self._postgres.url, "--poll-interval", "1s"]
        return [str(self._programs / "pgai"), *given, "--log-level", "warn"]


class CocoIndex(Peer):
    """One pass over the table, by `cocoindex_app.py`."""

    name = "CocoIndex"

    def _prepare(self) -> None:
        shutil.rmtree(self._folder / "cocoindex", ignore_errors=True)

    def _command(self) -> list[str]:
        app = str(Path(__file__).with_name("cocoindex_app.py"))
        given = [self._postgres.url, self._provider, str(DIMENSIONS), str(BATCH_ROWS)]
        return [str(self._programs / "python"), app, *given]


def _copied(value: str) -> str:
    """As COPY wants it."""
    escaped = value.replace("\\", "\\\\")
    return escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def memory_mb(pids: Sequence[int]) -> float:
    """What they and all that come from them hold."""
    return sum(resident_bytes(one) for pid in pids for one in family(pid)) / 1e6
