"""The data directory of a local stack: its lock, passwords, logs and `local.env`."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from embed_star.errors import ConfigError, EmbedStarError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Random passwords of one data directory. They are hexadecimal, so none needs quoting."""

    root_pass: str = field(repr=False)
    db_pass: str = field(repr=False)
    redis_pass: str = field(repr=False)


class DataDir:
    """The directory with all files of a stack. Only its owner can read them.

    An existing directory keeps its mode, since it belongs to the user; each file and folder
    in it is private by itself.

    One process holds it at a time, from `acquire` to `release`. `lock` is the descriptor
    that carries the lock, or -1.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # Redis changes its directory
        self.lock = -1
        self._logs: set[str] = set()

    @property
    def redis(self) -> Path:
        """Redis' append-only files."""
        return self.path / "redis"

    @property
    def surreal(self) -> Path:
        """The SurrealDB server's data."""
        return self.path / "surreal"

    @property
    def engine(self) -> Path:
        """The embedded engine's data, whose format is not the server's."""
        return self.path / "engine"

    @property
    def local_env(self) -> Path:
        """The environment for clients in another terminal, while the stack runs."""
        return self.path / "local.env"

    @property
    def credentials_file(self) -> Path:
        return self.path / "credentials.json"

    def folder(self, name: str) -> Path:
        """The private folder of one process, created if missing.

        It gets mode 0700, since the data directory itself may be open to others.
        """
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"the data directory {folder}: {error.strerror}") from None
        return folder

    def acquire(self) -> None:
        """Create and lock the directory. Raises EmbedStarError when another stack has it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the data directory {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.lock)
            self.lock = -1
            raise EmbedStarError(
                f"another embed-star uses {self.path}: stop it, or choose another --data-dir"
            ) from None
        # Passwords and rows: in nobody's repository by accident.
        (self.path / ".gitignore").write_text("*\n")
        self.local_env.unlink(missing_ok=True)  # of a stack that was killed

    def release(self) -> None:
        """Unlock the directory. A second call changes nothing."""
        if self.lock != -1:
            fcntl.flock(self.lock, fcntl.LOCK_UN)  # also for a fork that inherited it
            os.close(self.lock)
            self.lock = -1

    def credentials(self) -> Credentials:
        """The passwords, created at the first call. Call it between `acquire` and `release`."""
        try:
            return Credentials(**json.loads(self.credentials_file.read_text()))
        except FileNotFoundError:
            made = Credentials(*(secrets.token_hex(24) for _ in range(3)))
            self._write_private(self.credentials_file, json.dumps(asdict(made)))
            return made
        except (TypeError, ValueError):
            raise ConfigError(
                f"{self.credentials_file} is damaged: restore it, "
                "or remove the whole directory to begin anew"
            ) from None

    def write_local_env(self, environment: Mapping[str, str]) -> None:
        """Write `local.env`, in a form that both `.env` readers and sh can read."""
        lines = (f"{name}={_quoted(value)}\n" for name, value in environment.items())
        self._write_private(self.local_env, "".join(lines))

    def log(self, name: str) -> Path:
        """The log file of one process. That of the previous run becomes NAME.log.1."""
        log = self.folder("logs") / f"{name}.log"
        if name not in self._logs:
            self._logs.add(name)
            if log.exists():
                log.replace(log.with_name(f"{name}.log.1"))
        return log

    def _write_private(self, path: Path, text: str) -> None:
        """Write a file atomically, never readable by others."""
        partial = path.with_name(path.name + ".partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)


def _quoted(value: str) -> str:
    if "'" not in value:
        return shlex.quote(value)
    # shlex would write '"'"', which no reader of `.env` takes.
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
