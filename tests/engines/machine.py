"""A machine within this one: network, mounts and processes of its own, all gone at its end.

The engines make bridges, firewall rules, mounts and processes by the dozen. In namespaces of
their own none of them can meet one of this machine's, and the kernel removes all of them with
the first process, whatever became of it. The way out is slirp4netns, which needs no rule here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CGROUP = "embed-star-engines"
"""Containers' control groups: those are the one thing that namespaces do not remove."""

KUBELET = "kubepods"
"""What a kubelet calls its own."""

_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
PROGRAMS = {
    "slirp4netns": "slirp4netns",
    "mmdebstrap": "mmdebstrap",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "bc": "bc",
    "openssl": "openssl",
    "xz": "xz-utils",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What it needs, and the Debian package that has it. Those from `ipset` on are Kubernetes'."""


def why_not() -> str:
    """Why no engine can run here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "engines need Linux and root"
    if missing := sorted(package for name, package in PROGRAMS.items() if not _found(name)):
        if not shutil.which("apt-get"):
            return f"engines need {', '.join(missing)}, and there is no APT"
        env = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        options = ("-y", "-qq", "--no-install-recommends")
        subprocess.run(["apt-get", "update", "-qq"], check=False, env=env)
        argv = ["apt-get", "install", *options, *missing]
        if subprocess.run(argv, check=False, env=env, stdout=subprocess.DEVNULL).returncode:
            return f"engines need the Debian packages {', '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "engines need /dev/net/tun"
    return ""


def run(argv: Sequence[str]) -> int:
    """Run a command as the only one on such a machine, to its end; its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    before = _groups(KUBELET)  # of a kubelet of this machine's own
    entered, enter = os.pipe()
    connected, connect = os.pipe()
    inside = [sys.executable, "-m", "tests.engines.first", str(enter), str(connected), *argv]
    child = subprocess.Popen(["unshare", *_NAMESPACES, *inside], pass_fds=(enter, connected))
    os.close(enter)
    os.close(connected)
    network = None
    try:
        os.read(entered, 1)
        network = _connect(child.pid)
        os.write(connect, b"1")
        return child.wait()
    except KeyboardInterrupt:
        return child.wait()
    finally:
        # Nothing is left to end but after an error or a signal; then all of it ends with this one.
        child.kill()
        child.wait()
        if network:
            network.kill()
            network.wait()
        os.close(entered)
        os.close(connect)
        _forget(_groups(CGROUP) | _groups(KUBELET) - before)


def _connect(pid: int) -> subprocess.Popen[bytes]:
    """A way out for the network of process `pid`; none to this machine's own loopback."""
    ready, told = os.pipe()
    options = ("--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={told}")
    network = subprocess.Popen(
        [_found("slirp4netns"), *options, str(pid), "tap0"],
        pass_fds=(told,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for those inside: they still need it to stop well
    )
    os.close(told)
    try:
        if not os.read(ready, 1):
            raise RuntimeError("slirp4netns did not start")
    finally:
        os.close(ready)
    return network


def _groups(name: str) -> set[Path]:
    """The control groups of this name, of each controller."""
    return set(Path("/sys/fs/cgroup").glob(f"**/{name}"))


def _forget(groups: set[Path]) -> None:
    """Remove control groups of containers that are gone, the innermost first."""
    for root in groups:
        for group, _, _ in os.walk(root, topdown=False):
            # Busy for a moment yet after a kill; the next run removes it.
            with contextlib.suppress(OSError):
                Path(group).rmdir()


def _found(program: str) -> str:
    """The path of a program, which may be in a folder for root only."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
