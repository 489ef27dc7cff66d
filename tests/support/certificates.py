"""A private authority, and what it has certified for the loopback address."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_DAYS = "2"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """With `openssl`, as an operator would."""
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    ca_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1\n"
        "basicConstraints=critical,CA:FALSE\n"
        "extendedKeyUsage=serverAuth\n"
        "authorityKeyIdentifier=keyid\n"
    )
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", made.authority,
             "-days", _DAYS, "-subj", "/CN=A private authority",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl("req", *new_key, "-keyout", made.key, "-out", request, "-subj", "/CN=a server")
    _openssl("x509", "-req", "-in", request, "-CA", made.authority, "-CAkey", ca_key,
             "-CAcreateserial", "-days", _DAYS, "-extfile", extensions,
             "-out", made.certificate)  # fmt: skip
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
