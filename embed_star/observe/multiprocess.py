"""Metrics of a worker's child processes, in prometheus_client's files."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from prometheus_client import multiprocess, values
from prometheus_client.core import Metric

from embed_star.errors import ConfigError

_ALIVE = "alive_"
_TOUCH_S = 1.0


class SharedFiles:
    """The directory of the files. The parent makes it before any metric or child."""

    def __init__(self) -> None:
        """Make the directory. Metrics made from now on keep their values in its files.

        Raises ConfigError when no temporary directory can be written to.
        """
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="embed_star-metrics-")
        except OSError as error:
            raise ConfigError(
                "no place for the metrics of -P processes: let TMPDIR name a directory that can "
                f"be written to, or set MONITORING_PORT=0 ({error.strerror})"
            ) from None
        self.path = Path(self._folder.name)
        self._first_seen: dict[int, float] = {}
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._folder.name  # prometheus_client reads it
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Collect the sums over all children, and the gauges of living ones."""
        self._clear_dead()
        yield from multiprocess.MultiProcessCollector(None, self._folder.name).collect()  # type: ignore[no-untyped-call]

    def show_life(self) -> None:
        """Touch a file every second, in a thread of this child."""
        sign = self.path / f"{_ALIVE}{os.getpid()}"
        sign.touch()

        def touch() -> None:
            while True:
                time.sleep(_TOUCH_S)
                try:
                    os.utime(sign)
                except OSError:  # the parent has removed the directory and ends
                    return

        threading.Thread(target=touch, name="alive", daemon=True).start()

    def silent_s(self, pids: Collection[int]) -> dict[int, float]:
        """Seconds since each of these children last touched its file."""
        now = time.time()
        self._first_seen = {pid: self._first_seen.get(pid, now) for pid in pids}
        return {pid: now - self._seen_alive(pid) for pid in pids}

    def remove(self) -> None:
        """Remove the directory. Twice changes nothing."""
        self._folder.cleanup()

    def _seen_alive(self, pid: int) -> float:
        try:
            return (self.path / f"{_ALIVE}{pid}").stat().st_mtime
        except OSError:  # it has just been forked
            return self._first_seen[pid]

    def _clear_dead(self) -> None:
        """Remove the gauges of killed children, which could not do it themselves."""
        for file in self.path.glob("gauge_live*_*.db"):
            pid = int(file.stem.rsplit("_", 1)[1])
            if not _exists(pid):
                multiprocess.mark_process_dead(pid, self._folder.name)  # type: ignore[no-untyped-call]
                (self.path / f"{_ALIVE}{pid}").unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
