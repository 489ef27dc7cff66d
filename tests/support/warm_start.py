"""Starts commands that have imported everything already: what a start costs is its imports.

    python -m tests.support.warm_start

imports the program once, and then forks for each request: a JSON line with a `Job` on its
standard input. The fork becomes that command: its arguments, environment, directory, files,
session, and its own end. For each job a line with the process's id and, in the end, one with
how it ended go into the FIFO of that job. It has one thread, as a process that forks must.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

IMPORTED = (
    *("celery.bin.celery", "celery.bin.base", "celery.apps.worker", "celery.apps.beat"),
    *("celery.concurrency.thread", "celery.concurrency.prefork", "celery.app.control"),
    *("kombu.transport.redis", "celery.backends.redis", "celery.worker.worker", "tasks.app"),
)
NOT_IMPORTED = (
    *("embed_star.celery", "embed_star.cli.main"),  # each command's own
    *("embed_star.mcp", "embed_star.cli.mcp"),  # an extra, and much; its tests start it themselves
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a fork becomes: `python -m module *arguments`."""

    module: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    stdin: str
    stdout: str
    stderr: str
    told: str
    """The FIFO: `pid 17`, later `code 0`, as in `subprocess.Popen.returncode`."""
    own_session: bool = False


def import_all(folder: Path) -> None:
    """All that commands import, but for `NOT_IMPORTED`."""
    for path in sorted(folder.glob("embed_star/**/*.py")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        if path.name != "__main__.py" and not name.startswith(NOT_IMPORTED):
            importlib.import_module(name)
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1


def serve(requests: TextIO) -> Job | None:
    """Fork for each request. Returns the job in the fork, and None at the end of the requests."""
    for line in iter(requests.readline, ""):
        reap()
        if os.fork() == 0:
            job = Job(**json.loads(line))
            with Path(job.told).open("w", buffering=1) as told:
                if (pid := os.fork()) == 0:
                    return job
                print(f"pid {pid}", file=told)
                _, status = os.waitpid(pid, 0)
                print(f"code {os.waitstatus_to_exitcode(status)}", file=told)
            os._exit(0)
    reap()
    return None


def reap() -> None:
    """Forget those that waited for their fork and have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become(job: Job) -> None:
    """Run the command in this process, as if it had just been started."""
    if job.own_session:
        os.setsid()
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, (name, flags) in enumerate(
        ((job.stdin, os.O_RDONLY), (job.stdout, appended), (job.stderr, appended))
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(job.cwd)
    os.environ.clear()
    os.environ.update(job.env)
    sys.path[0] = job.cwd
    sys.argv = [job.module, *job.arguments]
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import_all(Path(__file__).parents[2])
    gc.freeze()  # or each fork would copy what the collector touches
    with os.fdopen(os.dup(0), encoding="utf-8") as requests:
        job = serve(requests)
    if job:
        become(job)
