"""Stand-ins for the Dockerfile's base images, made from Debian packages.

No registry is asked: each base is a Debian root of the same release and Python, with the
base's name and configuration. The runtime's stand-in has no shell either.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.deploy.tools import tool

SUITE = "trixie"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
RUNTIME_PACKAGES = (
    "base-files",
    "ca-certificates",
    "libgcc-s1",
    "libpython3.13-stdlib",
    "libstdc++6",
    "netbase",
    "python3.13-minimal",
    "tzdata",
)
BUILDER_PACKAGES = ("ca-certificates", "python3.13-venv")
STEP_S = 570.0


class Buildah:
    """Images in a directory of the test, built without an engine and without a registry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"))
        self._options += ("--storage-driver", "vfs")

    def __call__(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run buildah; what it printed. The test fails with its last words when it does."""
        argv = [tool("buildah"), *self._options, *arguments]
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=STEP_S, check=False
        )
        if done.returncode:
            pytest.fail(f"buildah {arguments[0]}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout.strip()

    def build(self, context: Path, tag: str) -> None:
        """Build the Dockerfile of `context` from bases that are here."""
        options = ("--isolation", "chroot", "--pull-never", "--format", "docker")
        self("bud", *options, "-t", tag, ".", cwd=context)

    def mount(self, tag: str) -> Path:
        """The root directory of an image."""
        return Path(self("mount", self("from", "--pull-never", tag)))

    def config(self, tag: str) -> dict[str, object]:
        """Docker's view of an image's configuration."""
        found = json.loads(self("inspect", "--type", "image", tag))
        return dict(found["Docker"]["config"])

    def make_builder(self, tag: str) -> None:
        """What stands in for `python:…-slim`: Python and pip in /usr/local/bin."""
        container = self._debian("builder", "apt", BUILDER_PACKAGES)
        if HOST_CERTIFICATES.exists():  # what pip trusts here
            self("add", "-q", container, str(HOST_CERTIFICATES), str(HOST_CERTIFICATES.parent))
        venv = ("python3.13", "-m", "venv", "/usr/local")
        self("run", "--isolation", "chroot", container, "--", *venv)
        self._commit(container, tag, "--env", "PATH=/usr/local/bin:/usr/bin:/bin")

    def make_runtime(self, tag: str) -> None:
        """What stands in for the distroless base: Python, and nothing that runs a script."""
        container = self._debian("runtime", "extract", RUNTIME_PACKAGES)
        self._commit(container, tag, "--user", "65532", "--entrypoint", '["/usr/bin/python3.13"]')

    def _debian(self, name: str, variant: str, packages: Sequence[str]) -> str:
        archive = self._folder / f"{name}.tar"
        argv = [tool("mmdebstrap"), "--quiet", f"--variant={variant}"]
        argv += [f"--include={','.join(packages)}", SUITE, str(archive)]
        subprocess.run(argv, check=True, capture_output=True, timeout=STEP_S)
        container = self("from", "scratch")
        self("add", "-q", container, str(archive), "/")
        return container

    def _commit(self, container: str, tag: str, *options: str) -> None:
        self("config", *options, container)
        self("commit", "-q", container, tag)
        self("rm", container)
