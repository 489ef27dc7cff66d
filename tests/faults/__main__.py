"""`make faults`: the cases and the random mixtures, several at once, and the table of figures.

    python -m tests.faults [--seeds 20] [--first 0] [--jobs 3] [--only EXPRESSION] [--report]

Each of the `--jobs` processes has servers of its own and takes every n-th test. `--report`
runs nothing, and writes the figures of the last run into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tests.faults import report, results

TESTS = "tests/faults"


def main() -> int:
    given = _arguments()
    if given.report:
        report.write_into_docs(results.read())
        return 0
    results.FILE.unlink(missing_ok=True)
    began = time.monotonic()
    env = {**os.environ, "FAULTS_SEEDS": str(given.seeds), "FAULTS_FIRST_SEED": str(given.first)}
    jobs = [_start(given, number, env) for number in range(given.jobs)]
    codes = [job.wait() for job in jobs]
    report.print_table(results.read(), time.monotonic() - began)
    return max(codes)


def _start(given: argparse.Namespace, number: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
    only = ["-k", given.only] if given.only else []
    own = {**env, "FAULTS_SHARD": f"{number}/{given.jobs}"}
    argv = [sys.executable, "-m", "pytest", "-q", "--no-header", *only, TESTS]
    return subprocess.Popen(argv, env=own)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many random mixtures")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=3, help="how many at once")
    parser.add_argument("--only", help="of pytest's -k")
    parser.add_argument("--report", action="store_true", help="write the last run into the docs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
