"""Make the secrets that docker-compose.yml and k8s/ need, as files in deploy/secrets/.

    make secrets

Each password is made once and then kept; done again, only what is missing is made, and what
follows from the passwords is written anew. Nothing secret is printed. What containers mount of
the checkout is made readable for their users, whatever the umask was. Put the key of your
provider into `openai_api_key` or `together_api_key`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
USERS = CHECKOUT / "deploy" / "redis" / "users.acl.example"

MOUNTED = ("alertmanager", "flower", "grafana", "prometheus", "redis")
"""What docker-compose.yml mounts, below deploy/."""

PASSWORDS = (
    "db_pass",
    "root_db_pass",
    "redis_password",
    "cache_password",
    "observer_password",
    "flower_password",
    "grafana_password",
)
INSTALLATION = "installation_id"
"""No secret: a part of the names in Redis, which its users have rights on."""
KEYS = ("openai_api_key", "together_api_key")
"""Empty until somebody fills them: an empty file counts as not there."""

REDIS_USERS = {
    "embed_star": "redis_password",
    "embed_star_cache": "cache_password",
    "embed_star_observer": "observer_password",
}


def derived(passwords: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Name and content of the files that follow from the passwords."""
    yield "redis_url", f"redis://embed_star:{passwords['redis_password']}@redis:6379/0"
    yield "cache_url", f"redis://embed_star_cache:{passwords['cache_password']}@cache:6379/0"
    observer = passwords["observer_password"]
    yield "observer_redis_url", f"redis://embed_star_observer:{observer}@redis:6379/0"
    example = USERS.read_text(encoding="utf-8").replace("INSTALLATION", passwords[INSTALLATION])
    yield "redis_users.acl", redis_users(example, passwords)
    # SurrealDB reads its first user's password from the environment only.
    yield "surrealdb.env", f"SURREAL_USER=root\nSURREAL_PASS={passwords['root_db_pass']}"


def redis_users(example: str, passwords: dict[str, str]) -> str:
    """The file of Redis' users, with a hash in place of each password."""

    def with_hash(match: re.Match[str]) -> str:
        password = passwords[REDIS_USERS[match["name"]]]
        return f"user {match['name']} on #{hashlib.sha256(password.encode()).hexdigest()}"

    return re.sub(r"^user (?P<name>\w+) on >CHANGE_ME", with_hash, example, flags=re.MULTILINE)


def make(folder: Path) -> list[str]:
    """Make what is missing; the names of the files that are new."""
    # The directory keeps others on this machine out. The files in it may be read by all,
    # since each container sees them as another user.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    passwords = {name: secrets.token_urlsafe(32) for name in PASSWORDS}
    passwords[INSTALLATION] = secrets.token_hex(8)
    new = []
    for name in (*PASSWORDS, INSTALLATION, *KEYS):
        path = folder / name
        if path.exists():
            passwords[name] = path.read_text(encoding="utf-8").strip()
        else:
            new.append(name)
        _write(path, passwords.get(name, ""))
    for name, content in derived(passwords):
        _write(folder / name, content)
    return new


def open_for_all(folder: Path) -> None:
    """Let everybody read it and what is in it: a user of a container is nobody here."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def _write(path: Path, content: str) -> None:
    """Without an end of line: `kubectl create secret` keeps it, and it would be of the password."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(content.rstrip(), encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=CHECKOUT / "deploy" / "secrets")
    folder = parser.parse_args().folder
    new = make(folder)
    for name in MOUNTED:
        open_for_all(CHECKOUT / "deploy" / name)
    print(f"{folder}: {f'made {len(new)} passwords and keys' if new else 'everything is there'}")


if __name__ == "__main__":
    main()
