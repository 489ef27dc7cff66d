"""What a model costs, measured in a process of its own that has nothing else in it.

`python -m bench.quality.footprint NUMBER FILE` prints JSON for the model of that place in
`ways.models()`: seconds until the first vector, resident memory then (and before, with numpy and
the provider's module), and texts a second of one core's time over the rows of FILE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.quality import corpus, ways


@dataclass(frozen=True, slots=True)
class Footprint:
    load_s: float
    memory_mb: float
    """Of the whole process, after the first vector."""
    model_mb: float
    """What of it came with the model."""
    texts_s: float


def of(number: int, rows: Path) -> Footprint:
    """Measure the model of that number over the rows of a file. Raises CalledProcessError."""
    command = (sys.executable, "-m", "bench.quality.footprint", str(number), str(rows))
    one_thread = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=os.environ | one_thread, cwd=corpus.CHECKOUT, check=True, capture_output=True
    )
    return Footprint(**json.loads(done.stdout))


def _measured(number: int, rows: Path) -> Footprint:
    texts = corpus.read(rows.name, rows, []).texts
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    np.ones((64, 64)) @ np.ones((64, 64))
    before = _resident_mb()
    began = time.perf_counter()
    provider = ways.models()[number][1]()
    provider.embed(["first"])
    load_s = time.perf_counter() - began
    memory = _resident_mb()
    began = time.process_time()  # of the core, whoever else has it in between
    provider.embed(texts)
    texts_s = len(texts) / (time.process_time() - began)
    return Footprint(load_s, memory, memory - before, texts_s)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(int(sys.argv[1]), Path(sys.argv[2])))))
