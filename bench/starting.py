"""`python -m bench start`: what the start of each process costs."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.usage import cpu_s, resident_bytes
from embed_star.cli.main import COMMANDS
from embed_star.devstack.servers import LocalServers, ServerOptions, free_port

RUNS = 5
POLL_S = 0.01
EMBED_STAR = (sys.executable, "-m", "embed_star.cli.main")
CELERY = (sys.executable, "-m", "celery", "-A", "embed_star")
HOSTED = {
    "EMBEDDING_PROVIDER": "openai",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",  # nothing is asked of it
    "EMBEDDING_MODEL": "hosted",
    "EMBEDDING_DIMENSIONS": "768",
}
PROCESSES = {
    "producer": (*EMBED_STAR, "watch"),
    "worker": (*CELERY, "worker"),
    "beat": (*CELERY, "beat", "--pidfile="),
}


def starts(figures: dict[str, float], runs: int = RUNS) -> list[tuple[str, ...]]:
    """CPU seconds and memory of each start: medians, which a busy machine changes little.

    A command is measured to its end, a process until it says that it is ready.
    """
    dearest = max(_ended((*EMBED_STAR, name, "--help"), os.environ, runs) for name in COMMANDS)
    rows = [_row(figures, "--help, the dearest of all", dearest, wanted="< 0.15 s")]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServers(Path(folder) / "data", ServerOptions(memory=True)) as servers,
    ):
        env = {**os.environ, **HOSTED, **servers.environment, **servers.root_environment}
        bootstrap = ("--bootstrap",) if servers.root_environment else ()
        subprocess.run(
            (*EMBED_STAR, "migrate", *bootstrap), env=env, check=True, capture_output=True
        )
        rows += [
            _row(figures, name, _ended((*EMBED_STAR, name), env, runs))
            for name in ("migrate", "status", "failures")
        ]
        for name, command in PROCESSES.items():
            taken = [_ready(command, env, Path(folder)) for _ in range(runs)]
            cpu_s, mib = (statistics.median(values) for values in zip(*taken, strict=True))
            wanted = "≤ 100 MiB" if name == "worker" else ""
            rows.append(_row(figures, name, cpu_s, mib, wanted=wanted))
    return rows


def _row(
    figures: dict[str, float], name: str, cpu_s: float, mib: float = 0.0, *, wanted: str = ""
) -> tuple[str, ...]:
    figures[f"start_{name}_cpu_s"] = cpu_s
    if mib:
        figures[f"start_{name}_mib"] = mib
    return f"start: {name}", f"{cpu_s:.2f} s of CPU", f"{mib:,.0f} MiB" if mib else "", "", wanted


def _ended(command: Sequence[str], env: Mapping[str, str], runs: int) -> float:
    """The median of the CPU seconds that a command takes to its end."""
    taken = []
    for _ in range(runs):
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        taken.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(taken)


def _ready(command: Sequence[str], env: Mapping[str, str], folder: Path) -> tuple[float, float]:
    """CPU seconds and MiB of a process when it first says that it is ready."""
    port = free_port()
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command,
            env={**env, "MONITORING_PORT": str(port), "PYTHONPATH": str(Path.cwd())},
            cwd=folder,  # beat keeps its schedule there
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            while not _answers(port):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(POLL_S)
            used_s, resident = cpu_s(process.pid), resident_bytes(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
    return used_s, resident / 2**20


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
