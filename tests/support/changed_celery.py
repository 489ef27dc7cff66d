"""Celery with something of it, or of ours, changed first.

python -m tests.support.changed_celery 'LINES OF PYTHON' -A embed_star worker
"""

from __future__ import annotations

import sys

from celery.__main__ import main

if __name__ == "__main__":
    exec(sys.argv.pop(1), globals())  # noqa: S102 - what a test says
    main()
