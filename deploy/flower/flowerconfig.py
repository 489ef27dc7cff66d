"""Flower's options that are no plain values: its password, from a file.

Flower runs this file when it starts. Without a password it does not start.
"""

import os
import sys
from pathlib import Path

_file = Path(os.environ.get("SECRETS_DIR") or "/run/secrets") / "flower_password"
try:
    _password = _file.read_text(encoding="utf-8").strip()
except OSError as error:
    sys.exit(f"flower: the file flower_password cannot be read: {error.strerror}")
if not _password:
    sys.exit("flower: the file flower_password is empty, and Flower must have a password")

basic_auth = [f"embed_star:{_password}"]
