"""The wheel, installed away from the checkout, has all that it needs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.command_line import Finished
from tests.support.isolation import CHECKOUT


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and the dependencies, and not the checkout."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    python = folder / "venv" / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    site = Path(found.stdout.strip())
    subprocess.run([python, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    # Appended: what the wheel brings comes first, and an editable install of the checkout
    # is not among it, since `.pth` files in there are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, *arguments: str, cwd: Path, **settings: str) -> Finished:
    done = subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "DB_PASS": "x", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_has_its_top_level_modules(python: Path, tmp_path: Path) -> None:
    program = "import beat_schedule, embed_star, tasks; print(embed_star.__file__)"
    found = run(python, "-c", program, cwd=tmp_path).assert_worked()
    assert str(python.parent.parent) in found


def test_has_migrations_and_examples(python: Path, tmp_path: Path) -> None:
    program = (
        "from embed_star.devstack import examples; from embed_star.store import migrations as m;"
        "print(len(m.read_migrations(m.find_directory())), examples.find('repos.jsonl').exists())"
    )
    in_checkout = len(list((CHECKOUT / "migrations").glob("*.surql")))
    assert run(python, "-c", program, cwd=tmp_path).assert_worked() == f"{in_checkout} True\n"


def test_has_no_code_but_what_it_runs(python: Path, tmp_path: Path) -> None:
    # The worked example of a provider, beside the example data, is for people who read it.
    program = (
        "from pathlib import Path; from embed_star.devstack import examples;"
        "print(sorted(one.name for one in examples.find('repos.jsonl').parent.iterdir()))"
    )
    found = run(python, "-c", program, cwd=tmp_path).assert_worked()
    assert found == "['repos.jsonl', 'searches.jsonl']\n"


def test_the_command_line_works(python: Path, tmp_path: Path) -> None:
    helped = run(python, "-m", "embed_star.cli.main", "--help", cwd=tmp_path).assert_worked()
    assert "migrate" in helped


def test_celery_finds_the_app(python: Path, tmp_path: Path) -> None:
    report = run(python, "-m", "celery", "-A", "embed_star", "report", cwd=tmp_path)
    assert report.code == 0, report.err
    assert "embed_star.store_embeddings" in report.out


def test_celery_with_a_wrong_setting_says_so(python: Path, tmp_path: Path) -> None:
    wrong = run(
        python, "-m", "celery", "-A", "embed_star", "report", cwd=tmp_path, BATCH_SIZE="many"
    )
    wrong.assert_one_sentence("BATCH_SIZE")
