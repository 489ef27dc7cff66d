"""A Docker engine with Compose in a folder, and the images that Compose asks for.

No registry is asked: each image is a stand-in of the same name, made from Debian's packages and
the project's own (`stand_ins/`). `Docker` is entered inside of a `machine`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from embed_star.devstack import database
from tests.deploy.bases import HOST_CERTIFICATES, RUNTIME_PACKAGES
from tests.deploy.tools import CHECKOUT
from tests.engines import debian
from tests.engines.machine import CGROUP

PACKAGES = ("docker.io", "docker-cli", "containerd", "docker-compose", "docker-buildx", "tini")
STAND_INS = Path(__file__).parent / "stand_ins"
DEBIAN = "engines/debian:trixie"
NONROOT = ("USER 65532", 'ENTRYPOINT ["/usr/bin/python3.13"]')
UP_S = 60.0
STOP_S = 60.0
COMMAND_S = 570.0


def folder() -> Path:
    """Where everything is kept: ENGINES_DIR, or a folder beside the other tools."""
    return Path(os.environ.get("ENGINES_DIR") or CHECKOUT / ".tools" / "engines").resolve()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took."""
    began = time.monotonic()
    yield
    print(f"· {time.monotonic() - began:5.1f} s  {what}", flush=True)  # noqa: T201


class Docker:
    """The engine, for a `with` block. What an earlier one had but its images is removed."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._process: subprocess.Popen[bytes] | None = None
        with timed("Docker's packages"):
            root = debian.install(where, PACKAGES)
        config = where / "docker-config"
        config.mkdir(exist_ok=True)
        plugins = root / "usr/libexec/docker/cli-plugins"
        (config / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(plugins)]}))
        # A path short enough for a socket, on this machine's own /tmp.
        self._socket = where / "docker.sock"
        path = f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}:/usr/sbin:/sbin"
        self.environment = {
            "PATH": path,
            "DOCKER_HOST": f"unix://{self._socket}",
            "DOCKER_CONFIG": str(config),
            "BUILDKIT_PROGRESS": "plain",
        }

    def __enter__(self) -> Self:
        with timed("Docker's engine is up"):
            self.start()
        self.clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.clear()
        finally:
            self.stop()

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        run = self._where / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        with (self._where / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--data-root={self._where / 'docker'}",
                    f"--exec-root={run}",
                    f"--pidfile={run / 'dockerd.pid'}",
                    f"--host=unix://{self._socket}",
                    f"--cgroup-parent=/{CGROUP}",
                    "--exec-opt=native.cgroupdriver=cgroupfs",
                ],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + UP_S
        while self._ask("version").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                last = (self._where / "dockerd.log").read_text().splitlines()[-5:]
                raise RuntimeError("dockerd did not start: " + "\n".join(last))
            time.sleep(0.1)

    def stop(self) -> None:
        """End the engine, and with it all containers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_S)
            self._process = None

    def clear(self) -> None:
        """Remove all containers, volumes, networks and what was built; the stand-ins stay."""
        if ids := self("ps", "--all", "--quiet").split():
            self("rm", "--force", "--volumes", *ids)
        self("volume", "prune", "--all", "--force")
        self("network", "prune", "--force")
        if built := self("images", "--quiet", "embed-star").split():
            self("image", "rm", "--force", *built)
        self("image", "prune", "--force")

    def __call__(self, *arguments: str) -> str:
        """Run `docker` with these arguments; what it printed. RuntimeError when it fails."""
        done = self._ask(*arguments)
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments[:4])}: {done.stderr[-3000:]}")
        return done.stdout

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.environment}
        argv = ["docker", *arguments]
        return subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )

    def make_images(self) -> None:
        """Make the stand-ins that are not there yet, or not of what is in `stand_ins/`."""
        runtime, roots = self._runtime(), self._where / "roots"
        roots.mkdir(exist_ok=True)
        wanted = (
            (roots / "debian.tar", "apt", ("ca-certificates", "wget")),
            (roots / "runtime.tar", "extract", RUNTIME_PACKAGES),
        )
        with timed("two roots of Debian"), ThreadPoolExecutor() as side_by_side:
            for made in [side_by_side.submit(debian.bootstrap, *one) for one in wanted]:
                made.result()
        self._import(roots / "debian.tar", DEBIAN)
        self._import(roots / "runtime.tar", runtime, *NONROOT)
        context = self._context()
        with timed("the stand-ins"):
            # All of them side by side first; then each has only to be named.
            self("build", "--quiet", "--target", "all", "--output", "type=cacheonly", str(context))
            for image in self._named():
                stage = image.rpartition("/")[2].partition(":")[0]
                self("build", "--quiet", "--target", stage, "--tag", image, str(context))
        self("image", "prune", "--force")  # those that had these names before

    @staticmethod
    def _runtime() -> str:
        text = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
        return re.findall(r"^FROM ([^\s@]+)", text, re.MULTILINE)[-1]

    @staticmethod
    def _named() -> Sequence[str]:
        """The images that are named, as the Dockerfile's first and Compose's, with tags."""
        wanted = r"^(?:FROM|\s+image:) (docker\.io/[^\s@]+)"
        texts = [(CHECKOUT / name).read_text() for name in ("Dockerfile", "docker-compose.yml")]
        found = {one for text in texts for one in re.findall(wanted, text, re.MULTILINE)}
        return sorted(one for one in found if "/ollama:" not in one)

    def _import(self, archive: Path, tag: str, *changes: str) -> None:
        if self._ask("image", "inspect", tag).returncode:
            options = [word for change in changes for word in ("--change", change)]
            self("import", *options, str(archive), tag)

    def _context(self) -> Path:
        """What the stand-ins are made of."""
        context = self._where / "context"
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(STAND_INS, context)
        shutil.copy(CHECKOUT / "deploy/locks/exporter.lock", context)
        certificates = context / HOST_CERTIFICATES.name
        certificates.touch()
        if HOST_CERTIFICATES.exists():  # what pip trusts here
            shutil.copy(HOST_CERTIFICATES, certificates)
        shutil.copy(self._surreal(), context / "surreal")
        return context

    def _surreal(self) -> Path:
        """The SurrealDB server itself: what `find_surreal` names may be a script around it."""
        found = database.find_surreal(os.environ)
        if found is None:
            raise RuntimeError("the image of SurrealDB needs a server: set SURREAL_BIN")
        cache = self._where / "surreal"
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        subprocess.run([str(found), "version"], env=env, check=True, stdout=subprocess.DEVNULL)
        unpacked = (path for path in cache.rglob("surreal") if path.is_file())
        return next(unpacked, found)
