"""A Kubernetes node beside the Docker engine, on a `machine` of its own.

KUBERNETES_BIN names a folder with `node-up`, which starts etcd, the control plane, containerd,
kubelet and kube-proxy, and beside it `dns.yaml`, and packed: `pause`, `coredns` and `kube-router`,
which enforces NetworkPolicies. Without the variable there is no node.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tests.engines.docker import Docker, timed

ADDRESS = "10.244.0.1"
"""The node's, on the pods' bridge: pods reach this process there."""
IMAGES = {
    "pause": "registry.k8s.io/pause:3.10",
    "coredns": "registry.k8s.io/coredns/coredns:v1.12.1",
}
CTR = "ctr -a /run/k8s-containerd/containerd.sock -n k8s.io images"
READY_S = 180.0
CLAIMS_GIB = {"surrealdb": 20, "redis": 4, "flower": 1, "backups": 10}

_KIND = f"""#!/bin/sh
# kind load docker-image NAME…
shift 2
docker save "$@" | {CTR} import - >/dev/null
"""
_ROUTER = (
    "--run-router=false",
    "--run-firewall=true",
    "--run-service-proxy=false",
    "--enable-cni=false",
    "--hostname-override=node1",
    "--service-cluster-ip-range=10.96.0.0/16",
)


def forget(where: Path) -> None:
    """Remove all that a node had in `where`, but for the programs; none may run there."""
    for path in where.glob("*"):
        if path.name != "bin":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class Node:
    """The node, for a `with` block."""

    def __init__(self, docker: Docker, where: Path) -> None:
        self._docker = docker
        self._where = where / "kube"
        self._router: subprocess.Popen[bytes] | None = None
        self._programs = Path(os.environ["KUBERNETES_BIN"])
        tools = self._where / "tools"
        self.environment = {
            **docker.environment,
            "KUBE_DIR": str(self._where),
            "KUBECONFIG": str(self._where / "conf/admin.kubeconfig"),
            "PATH": f"{tools}:{self._where}/bin/k:{docker.environment['PATH']}",
        }

    def __enter__(self) -> Self:
        self._make_room()
        # Docker's own rules drop what they do not know; pods are none of its.
        self._call("iptables", "--policy", "FORWARD", "ACCEPT")
        with timed("the node is ready"):
            self._call(str(self._programs / "node-up"))
        with timed("names and the firewall are there"):
            self._load_own_images()
            self.kubectl("apply", "-f", str(self._programs / "dns.yaml"))
            self._make_volumes()
            self._start_router()
            self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._router is not None:
            self._router.terminate()
            self._router.wait()
        for line in reversed((self._where / "pids").read_text().splitlines()):
            _, pid = line.split()
            try:
                os.kill(int(pid), signal.SIGTERM)
            except ProcessLookupError:
                continue

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self._call("kubectl", *arguments, stdin=stdin)

    def load(self, *images: str) -> None:
        """Give the node images that Docker has."""
        self._call("kind", "load", "docker-image", *images)

    def _make_room(self) -> None:
        """Folders for what `node-up` and the kubelet expect at fixed places of this machine."""
        forget(self._where)
        for place in ("/etc", "/var/lib", "/var/log", "/run"):
            own = self._where / "state" / place.strip("/").replace("/", "-")
            for part in ("upper", "work"):
                (own / part).mkdir(parents=True)
            options = f"lowerdir={place},upperdir={own / 'upper'},workdir={own / 'work'}"
            self._call("mount", "-t", "overlay", "overlay", "-o", options, place)
        for place in ("/var/lib/kubelet", "/var/lib/k8s-containerd"):
            source = self._where / "state" / place.rpartition("/")[2]
            source.mkdir()
            Path(place).mkdir()
            self._call("mount", "--bind", str(source), place)
        tools = self._where / "tools"
        tools.mkdir()
        (tools / "kind").write_text(_KIND)
        (tools / "kind").chmod(0o755)

    def _load_own_images(self) -> None:
        for name, tag in IMAGES.items():
            archive = self._where / "state" / f"{name}.tar"
            with tarfile.open(archive, "w") as tar:
                tar.add(self._where / "bin" / name, name)
            self._docker("import", "--change", f'ENTRYPOINT ["/{name}"]', str(archive), tag)
        self.load(*IMAGES.values())

    def _make_volumes(self) -> None:
        """What a default StorageClass would make."""
        for name, size in CLAIMS_GIB.items():
            path = self._where / "pv" / name
            path.mkdir(parents=True)
            path.chmod(0o777)
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": f"{size}Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": str(path)},
                },
            }
            self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(volume))

    def _start_router(self) -> None:
        program = self._where / "tools" / "kube-router"
        packed = self._programs / "kube-router.xz"
        with program.open("wb") as file:
            subprocess.run(["xz", "-dc", str(packed)], stdout=file, check=True)
        program.chmod(0o755)
        with (self._where / "log" / "kube-router.log").open("wb") as log:
            self._router = subprocess.Popen(
                [str(program), *_ROUTER, f"--kubeconfig={self.environment['KUBECONFIG']}"],
                env=self._environ(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environ(self) -> Mapping[str, str]:
        return {**os.environ, **self.environment}

    def _call(self, *argv: str, stdin: str = "") -> str:
        done = subprocess.run(
            argv,
            env=self._environ(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=READY_S * 2,
            check=False,
        )
        if done.returncode:
            words = " ".join(argv[:4])
            raise RuntimeError(f"{words}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout
