"""The starred repositories of a user, from GitHub's REST API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from embed_star.errors import ConfigError, EmbedStarError, TransientError
from embed_star.importing.github import GitHubClient, Reply
from embed_star.providers.http.connection_faults import refused_by_proxy

_USER = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HEADERS = {"Accept": "application/vnd.github.star+json"}  # {"starred_at", "repo"}; else bare repos


class StarredClient(GitHubClient):
    """Lists starred repositories. Not thread-safe."""

    def starred(self, user: str) -> Iterator[object]:
        """Every repository that `user` starred, as an object of GitHub's API.

        Reads page by page. Raises ConfigError when the user, the token or the URL is wrong,
        and TransientError after too many failures or too long a wait; the repositories up to
        there are valid.
        """
        if not _USER.fullmatch(user):
            raise ConfigError("--starred takes a GitHub user name: letters, digits and hyphens")
        url: str | None = f"{self.base}/users/{user}/starred?per_page=100"
        seen: set[str] = set()
        while url:
            if url in seen:
                raise TransientError(f"GitHub at {self.host} gave pages that go in a circle")
            seen.add(url)
            reply = self._page(url, user)
            yield from _items(reply.body) or ()
            url = self.on_host(url, reply.next_link) if reply.next_link else None

    def _page(self, url: str, user: str) -> Reply:
        reply = self.ask(url, _HEADERS, fault=_fault)
        if isinstance(reply, str):
            raise TransientError(reply)
        if reply.status == 200:
            return reply
        raise self._refusal(reply.status, user)

    def _refusal(self, status: int, user: str) -> EmbedStarError:
        if status == 404:
            return ConfigError(f"GitHub at {self.host} has no user {user}")
        if status == 401 and self.has_token:
            return ConfigError("GitHub refused GITHUB_TOKEN (401): it is wrong or has expired")
        if status == 407:
            return ConfigError(refused_by_proxy(status, self.base))
        if status in (401, 403):
            return ConfigError(
                f"GitHub at {self.host} refuses to list what {user} starred ({status}): check "
                "GITHUB_TOKEN and its rights"
            )
        return EmbedStarError(f"GitHub at {self.host} answered {status}; is --github-api right?")


def _fault(body: bytes) -> str:
    return "gave an answer that is no JSON list" if _items(body) is None else ""


def _items(body: bytes) -> list[object] | None:
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else None
