"""Programs and roots from Debian, in a folder of ours: nothing of this machine's APT is changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.bases import SUITE

STEP_S = 570.0


def mirror() -> str:
    """The address that this machine's own APT takes Debian from."""
    wanted = ("Created-By: Packages", "Label: Debian")
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]
    found = sorted(set(_output(argv).split()))
    if not found:
        raise RuntimeError("this machine's APT names no Debian: put one into its sources")
    return found[0]


def install(folder: Path, packages: Sequence[str]) -> Path:
    """Unpack `packages` of the newer release, without what they depend on; where they are."""
    root, state = folder / "root", folder / "apt"
    done = state / "unpacked"
    if done.exists() and done.read_text() == " ".join(packages):
        return root
    for part in ("lists/partial", "cache/archives/partial", "debs"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb {mirror()} {SUITE} main\n")
    (state / "apt.conf").write_text(
        f'Dir::State::Lists "{state}/lists";\n'
        f'Dir::Cache "{state}/cache";\n'
        f'Dir::Etc::SourceList "{state}/sources.list";\n'
        'Dir::State::Status "/dev/null";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        'Dir::Etc::PreferencesParts "/dev/null";\n'
        'APT::Sandbox::User "root";\n'
    )
    env = {**os.environ, "APT_CONFIG": str(state / "apt.conf")}
    _output(["apt-get", "update", "-qq"], env=env)
    _output(["apt-get", "download", "-qq", *packages], env=env, cwd=state / "debs")
    for package in sorted((state / "debs").glob("*.deb")):
        _output(["dpkg-deb", "--extract", str(package), str(root)])
    done.write_text(" ".join(packages))
    return root


def bootstrap(archive: Path, variant: str, packages: Sequence[str]) -> None:
    """Write a root of the newer release as a tar file, unless it is there."""
    if archive.exists():
        return
    part = archive.with_suffix(".part")
    argv = ["mmdebstrap", "--quiet", f"--variant={variant}", "--format=tar"]
    _output([*argv, f"--include={','.join(packages)}", SUITE, str(part), mirror()])
    part.rename(archive)


def _output(
    argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    done = subprocess.run(
        argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=STEP_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[:3])}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
