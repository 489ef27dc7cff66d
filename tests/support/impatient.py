"""Our processes, with loops that count as stuck after `LIVENESS_S`.

python -m tests.support.impatient celery -A embed_star worker
python -m tests.support.impatient embed_star.cli.main watch
"""

from __future__ import annotations

import runpy
import sys

from embed_star import timings

LIVENESS_S = 2.0

if __name__ == "__main__":
    timings.LIVENESS_TIMEOUT_S = LIVENESS_S
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
