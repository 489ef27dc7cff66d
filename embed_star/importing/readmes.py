"""READMEs from GitHub's REST API, for rows that an import reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from embed_star.errors import ConfigError, TransientError
from embed_star.importing.encoding import decoded
from embed_star.importing.github import GitHubClient
from embed_star.importing.repo import BadLine, Repo, Row
from embed_star.providers.http.connection_faults import refused_by_proxy

MAX_README_BYTES = 1_000_000
"""What is longer is cut: a search reads no more than its beginning anyway."""

FAILED_IN_A_ROW = 3
"""READMEs that cannot be fetched, one after another, before the import stops: GitHub is down."""

ROWS_AT_ONCE = 50
"""Rows whose ETags are looked up together."""

_NAME = re.compile(r"(?!\.{1,2}(?:/|$))[\w.-]{1,100}/(?!\.{1,2}$)[\w.-]{1,100}", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"[!#-~]{1,200}"')
_RAW = "application/vnd.github.raw+json"

Etags = Callable[[Sequence[Any]], Sequence[str]]
"""The ETag of the README that the row with each of these keys has; empty: none is known."""


@dataclass(frozen=True, slots=True)
class Readme:
    """A README, or why there is none."""

    text: str = ""
    etag: str = ""
    """Of this state; sent back, it costs nothing to hear that it is still so."""
    failure: str = ""
    """Why it is not known."""


class AsksForReadmes(Protocol):
    """`ReadmeClient`."""

    def readme(self, full_name: str, etag: str = "") -> Readme | None:
        """The README of `full_name`; None if it is as it was at `etag`."""


class ReadmeClient(GitHubClient):
    """Fetches READMEs. Not thread-safe."""

    def readme(self, full_name: str, etag: str = "") -> Readme | None:
        """The README of `full_name`, without text if it has none; None if it is as at `etag`.

        Of a README beyond MAX_README_BYTES, the beginning. One that is no text is empty.
        Raises ConfigError for a wrong token or URL, and TransientError for too long a wait.
        """
        if not _NAME.fullmatch(full_name):
            return Readme(failure="the README is not asked for: GitHub has no such name")
        headers = {"Accept": _RAW}
        if _ETAG.fullmatch(etag):
            headers["If-None-Match"] = etag
        url = f"{self.base}/repos/{full_name}/readme"
        reply = self.ask(url, headers, most_bytes=MAX_README_BYTES)
        if isinstance(reply, str):
            return Readme(failure=reply)
        if reply.status == 304:
            return None
        if reply.status == 404:
            return Readme()
        if reply.status == 401 and self.has_token:
            raise ConfigError("GitHub refused GITHUB_TOKEN (401): it is wrong or has expired")
        if reply.status == 407:
            raise ConfigError(refused_by_proxy(reply.status, self.base))
        if reply.status != 200:
            return Readme(failure=f"GitHub answered {reply.status} when asked for the README")
        return Readme(decoded(reply.body), reply.headers.get("ETag", ""))


def with_readmes(
    rows: Iterable[Row | BadLine],
    client: AsksForReadmes,
    etags: Etags,
    on_row: Callable[[str], None] = lambda _full_name: None,
) -> Iterator[Row | BadLine]:
    """`rows`, each with its README in the field `readme` and its ETag in `readme_etag`.

    A README that the row brings along is kept. Where it is as it was, or the repository has
    none and had none, the row stays as it is. One that cannot be fetched is noted in
    `left_out`. Raises TransientError after FAILED_IN_A_ROW of those, and as the client does.
    """
    left, failed = iter(rows), 0
    while some := list(islice(left, ROWS_AT_ONCE)):
        wanted = [one for one in some if isinstance(one, Row) and "readme" not in one.repo.fields]
        known = iter(etags([one.repo.key for one in wanted]) if wanted else ())
        for row in some:
            if isinstance(row, BadLine) or "readme" in row.repo.fields:
                yield row
                continue
            full_name = str(row.repo.fields["full_name"])
            on_row(full_name)
            etag = next(known)
            found = client.readme(full_name, etag)
            failed = failed + 1 if found and found.failure.startswith("GitHub at") else 0
            if found and failed >= FAILED_IN_A_ROW:
                raise TransientError(found.failure)
            yield _with(row, found, etag)


def _with(row: Row, found: Readme | None, etag: str) -> Row:
    if found is None or not (found.text or found.failure or etag):
        return row
    if found.failure:
        return replace(row, left_out=(*row.left_out, f"readme: {found.failure}"))
    fields = {**row.repo.fields, "readme": found.text, "readme_etag": found.etag}
    return replace(row, repo=Repo(row.repo.key, fields))
