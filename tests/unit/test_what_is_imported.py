"""What a process imports before it needs it: nothing heavy. It is most of the time of a start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embed_star.cli.main import COMMANDS
from embed_star.devstack import DATA_DIR
from embed_star.settings import LOCAL_ENV_FILE

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "DB_URL": "ws://127.0.0.1:1",
    "DB_PASS": "none",
    "EMBEDDING_PROVIDER": "ollama",
    "INSTALLATION_ID": "here",  # else the database is asked for it
}

_HELPS: list[list[str]] = [[], *([name] for name in COMMANDS)]
_PRINT_LOADED = "print(*{name.partition('.')[0] for name in sys.modules} - before)"

SDK = {"surrealdb", "aiohttp"}
"""SurrealDB's SDK is there for its embedded engine, and what it brings along is not used."""

VECTORS = {"numpy", "requests", "urllib3"}
"""For those that ask the provider, or read and write vectors."""

_APP = "from embed_star.celery import app"
_WORKER = f"{_APP}; import embed_star.embed.embedder, embed_star.write.storer"
_PRODUCER = f"""
from embed_star.cli import producer
{_APP}
from embed_star.services import Services, monitoring
from embed_star.settings import load_settings
from tasks.dispatch import CeleryDispatcher
services = Services(load_settings())
heartbeat = monitoring.producer_heartbeat(services.settings)
producer._producer(services, CeleryDispatcher(app), heartbeat, "me")
monitoring.fleet_gauges(services)
monitoring.process_registry(services)
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return Loaded(tmp_path)


class Loaded:
    """Says what programs load, each in a process of its own and in an empty directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def by(self, code: str) -> set[str]:
        """The top-level packages that `code` loads."""
        program = f"import sys; before = set(sys.modules)\n{code}\n{_PRINT_LOADED}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self._directory,
            env={"PATH": "", "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), **SETTINGS},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.splitlines()[-1].split())


def test_help_loads_click_and_no_other_package(loaded: Loaded) -> None:
    found = loaded.by(
        "from embed_star.cli.main import cli\n"
        f"for words in {_HELPS!r}: cli.main([*words, '--help'], standalone_mode=False)"
    )
    assert found - sys.stdlib_module_names == {"click", "embed_star"}
    assert not found & {"asyncio", "ssl", "multiprocessing"}


def test_the_services_load_no_part_of_theirs(loaded: Loaded) -> None:
    found = loaded.by(
        "from embed_star.services import Services\n"
        "from embed_star.settings import load_settings\n"
        "Services(load_settings()).store.migrator"
    )
    assert "websockets" in found  # it would have spoken with the database
    assert not found & (SDK | VECTORS | {"redis", "celery", "kombu", "prometheus_client"})


@pytest.mark.parametrize("code", [_APP, _PRODUCER], ids=["beat", "producer"])
def test_what_sees_no_vector_loads_nothing_for_them(loaded: Loaded, code: str) -> None:
    found = loaded.by(code)
    assert {"celery", "redis"} <= found
    assert not found & (SDK | VECTORS)


def test_a_worker_loads_nothing_of_the_sdk(loaded: Loaded) -> None:
    found = loaded.by(_WORKER)
    assert {"celery", "redis", "numpy", "requests"} <= found
    assert not found & SDK


def test_the_data_of_up_is_where_the_settings_look_for_it() -> None:
    assert Path(LOCAL_ENV_FILE).parent == DATA_DIR
