"""Add digests to the images that the Dockerfile, docker-compose.yml and k8s/ name by tag.

    python3 deploy/pin_images.py

A tag may be moved to other content; a digest is the content. Each `host/name:tag` becomes
`host/name:tag@sha256:…`, as its registry says at this moment. A name without a host is
built here and stays as it is. Done again, it brings the digests up to date. When one
registry cannot be asked, no file is changed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 20.0
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# The API of Docker's own registry is at another name than its images.
API_HOSTS = {"docker.io": "https://registry-1.docker.io"}

_REFERENCE = re.compile(
    r"^(?P<before>\s*(?:FROM|-?\s*image:)\s+)"
    r"(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?)/(?P<name>[a-z0-9._/-]+):(?P<tag>[\w.-]+)"
    r"(?:@sha256:[0-9a-f]{64})?",
    re.MULTILINE,
)


class Unresolved(Exception):
    """An image has no digest, and why."""


class Image(NamedTuple):
    """A name with a tag, such as `docker.io/library/redis:8.2.1-alpine`."""

    host: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}:{self.tag}"


def files(checkout: Path) -> list[Path]:
    """What names images."""
    wanted = [checkout / "Dockerfile", checkout / "docker-compose.yml"]
    return [path for path in (*wanted, *sorted(checkout.glob("k8s/**/*.yaml"))) if path.exists()]


def images(text: str) -> Iterator[Image]:
    """The images that `text` names by host and tag."""
    for match in _REFERENCE.finditer(text):
        yield Image(match["host"], match["name"], match["tag"])


def pinned(text: str, digests: Mapping[Image, str]) -> str:
    """`text` with the digest behind each tag."""

    def with_digest(match: re.Match[str]) -> str:
        image = Image(match["host"], match["name"], match["tag"])
        return f"{match['before']}{image}@{digests[image]}"

    return _REFERENCE.sub(with_digest, text)


def digest_of(image: Image, apis: Mapping[str, str]) -> str:
    """`sha256:…` of what the registry has under the tag. Raises Unresolved."""
    base = apis.get(image.host, f"https://{image.host}")
    url = f"{base}/v2/{image.name}/manifests/{image.tag}"
    try:
        body, announced = _manifest(url)
    except urllib.error.HTTPError as error:
        raise Unresolved(f"{image}: its registry answers {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unresolved(f"{image}: its registry cannot be asked ({reason})") from None
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if announced and announced != digest:
        raise Unresolved(f"{image}: its registry announces another digest than it sends")
    return digest


def _manifest(url: str) -> tuple[bytes, str]:
    """The manifest as it is, and the digest that the registry announces."""
    headers = {"Accept": MANIFESTS}
    try:
        return _get(url, headers)
    except urllib.error.HTTPError as error:
        challenge = error.headers.get("WWW-Authenticate", "")
        if error.code != 401 or not challenge.startswith("Bearer "):
            raise
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {name: fields[name] for name in ("service", "scope") if name in fields}
    token, _ = _get(f"{fields.get('realm', '')}?{urllib.parse.urlencode(query)}", {})
    return _get(url, {**headers, "Authorization": f"Bearer {json.loads(token)['token']}"})


def _get(url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
    request = urllib.request.Request(url, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return answer.read(), answer.headers.get("Docker-Content-Digest", "")


def main(argv: list[str] | None = None) -> int:
    """Pin all images, or none."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=CHECKOUT, help="where the files are")
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        metavar="HOST=URL",
        help="ask URL about the images of HOST, such as a mirror's",
    )
    chosen = parser.parse_args(argv)
    apis = API_HOSTS | dict(pair.split("=", 1) for pair in chosen.registry)
    texts = {path: path.read_text(encoding="utf-8") for path in files(chosen.checkout)}
    try:
        named = sorted({image for text in texts.values() for image in images(text)})
        digests = {image: digest_of(image, apis) for image in named}
    except Unresolved as error:
        print(f"pin_images: {error}; nothing is changed", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(pinned(text, digests), encoding="utf-8")
    for image, digest in digests.items():
        print(f"{image}@{digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
