"""What a process imports before it needs it: nothing heavy. It is most of the time of a start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from embed_star.cli.main import COMMANDS
from embed_star.devstack import DATA_DIR
from embed_star.settings import LOCAL_ENV_FILE

ROOT = Path(__file__).parents[2]

_PRINT_LOADED = "print(*{name.partition('.')[0] for name in sys.modules} - before)"


def loaded(code: str, **env: str) -> set[str]:
    """The top-level packages that `code` loads in a process of its own."""
    program = f"import sys; before = set(sys.modules); {code}; {_PRINT_LOADED}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_click_and_no_other_package() -> None:
    helps = f"[cli.main([*words, '--help'], standalone_mode=False) for words in {_HELPS!r}]"
    found = loaded(f"from embed_star.cli.main import cli; {helps}")
    assert found - sys.stdlib_module_names == {"click", "embed_star"}
    assert not found & {"asyncio", "ssl", "multiprocessing"}


_HELPS: list[list[str]] = [[], *([name] for name in COMMANDS)]


def test_the_data_of_up_is_where_the_settings_look_for_it() -> None:
    assert Path(LOCAL_ENV_FILE).parent == DATA_DIR
