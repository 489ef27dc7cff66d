"""One question to GitHub's REST API, asked until there is an answer.

The client talks to one host only: the token goes to the host of --github-api, and no
`Link` and no redirect leads elsewhere. For each question, it allows `RETRIES` failures,
and `max_wait_s` of waiting for rate limits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

from embed_star.errors import ConfigError, TransientError
from embed_star.providers.http.connection_faults import (
    lasting_fault,
    proxy_trouble,
)

RETRIES = 4
"""Retries after a 5xx, a lost connection or a torn answer."""
BACKOFF_S = 1.0
BACKOFF_MAX_S = 20.0
UNNAMED_LIMIT_S = 60.0
"""GitHub's advice for a rate limit that does not say how long it lasts."""
MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""A page of 100 repositories has about 0.6 MB."""

_TIMEOUTS_S = (5.0, 20.0)  # connecting; silence within an answer
_REDIRECTS = frozenset({301, 302, 307, 308})
_MAX_REDIRECTS = 5  # a renamed user is one
_HEADERS = {
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "embed-star",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is neither a failure, nor a rate limit, nor a redirect."""

    status: int
    headers: Mapping[str, str]
    """Looked up in any case."""
    next_link: str
    body: bytes


class _TokenAuth(requests.auth.AuthBase):
    """Sends the token. It also keeps `requests` from sending a password from ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class GitHubClient:
    """Asks GitHub. Not thread-safe.

    `on_wait(remaining_s, why)` is called every second of a wait, and with 0 at its end.
    Raises ConfigError when the URL or the token is malformed.
    """

    def __init__(
        self,
        api_url: str,
        token: str = "",
        *,
        max_wait_s: float = 3600.0,
        on_wait: Callable[[float, str], None] = lambda _remaining_s, _why: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not token.isascii() or any(c.isspace() or not c.isprintable() for c in token):
            raise ConfigError("GITHUB_TOKEN holds a space or a character that no token has")
        self.base = api_url.rstrip("/")
        self._origin = _origin(self.base)
        self.host = urlsplit(self.base).hostname or ""
        self.has_token = bool(token)
        self._max_wait_s = max_wait_s
        self._on_wait, self._clock, self._sleep, self._jitter = on_wait, clock, sleep, jitter
        self._session = requests.Session()
        self._session.headers.update(_HEADERS)
        self._session.auth = _TokenAuth(token)

    def close(self) -> None:
        """Close the connections. A second call changes nothing."""
        self._session.close()

    def ask(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        fault: Callable[[bytes], str] = lambda _body: "",
        most_bytes: int | None = None,
    ) -> Reply | str:
        """The reply to GET `url`; after too many failures, a sentence with the last one.

        `fault` says what is wrong with the body of a 200, which is a failure then. Of a body
        only `most_bytes` are read; without them, one beyond MAX_ANSWER_BYTES is a ConfigError.
        Raises ConfigError for what trying again does not cure, and TransientError if a rate
        limit lasts longer than `max_wait_s`.
        """
        failures, redirects, limits, waited_s = 0, 0, 0, 0.0
        while True:
            reply = self._try(url, headers, fault, most_bytes)
            if isinstance(reply, str):
                failures += 1
                if failures > RETRIES:
                    return (
                        f"GitHub at {self.host} {reply}, {failures} times in a row; try again later"
                    )
                self._wait(self._backoff_s(failures), f"GitHub {reply}")
            elif (limit_s := self._limit_s(reply, limits)) is not None:
                limits += 1
                waited_s += limit_s
                self._check_patience(limit_s, waited_s)
                self._wait(limit_s, "GitHub's rate limit is used up")
            elif reply.status in _REDIRECTS and redirects < _MAX_REDIRECTS:
                redirects += 1
                url = self.on_host(url, reply.headers.get("Location", ""))
            else:
                return reply

    def _try(
        self,
        url: str,
        headers: Mapping[str, str],
        fault: Callable[[bytes], str],
        most_bytes: int | None,
    ) -> Reply | str:
        """Send one request; the reply, or the reason to try again."""
        try:
            reply = self._request(url, headers, most_bytes)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if sentence := lasting_fault(error, url):
                raise ConfigError(sentence) from None
            if isinstance(error, InvalidURL | InvalidSchema | MissingSchema):
                raise ConfigError("--github-api, or a proxy's URL, cannot be used") from error
            trouble = proxy_trouble(error, url)
            return trouble or f"could not be reached ({type(error).__name__})"
        if reply.status >= 500:
            return f"answered {reply.status}"
        return (fault(reply.body) if reply.status == 200 else "") or reply

    def _request(self, url: str, headers: Mapping[str, str], most_bytes: int | None) -> Reply:
        with self._session.get(
            url, headers=headers, timeout=_TIMEOUTS_S, allow_redirects=False, stream=True
        ) as response:
            body = bytearray()
            for block in response.iter_content(64 * 1024):
                body += block
                if most_bytes is not None and len(body) >= most_bytes:
                    break
                if len(body) > MAX_ANSWER_BYTES:
                    raise ConfigError(f"{self.host} answers too much; is --github-api right?")
            link = response.links.get("next", {}).get("url", "")
            return Reply(response.status_code, response.headers, link, bytes(body[:most_bytes]))

    def _limit_s(self, reply: Reply, limits: int) -> float | None:
        """How long a rate limit asks to wait; None for a reply that is no rate limit."""
        if reply.status not in (403, 429):
            return None
        now = _date(reply.headers.get("Date", "")) or self._clock()
        asked: float | None
        if retry_after := reply.headers.get("Retry-After", ""):
            date = _date(retry_after)
            asked = date - now if date else _seconds(retry_after)
        elif reply.headers.get("X-RateLimit-Remaining") == "0":
            reset = _seconds(reply.headers.get("X-RateLimit-Reset", ""))
            asked = reset - now + 1 if reset else None
        elif reply.status == 429 or b"rate limit" in reply.body[:4096].lower():
            asked = None
        else:
            return None
        # A wait of nothing, again and again, would be no wait.
        return max(
            UNNAMED_LIMIT_S if asked is None else asked, min(2.0 ** min(limits, 6), UNNAMED_LIMIT_S)
        )

    def _check_patience(self, limit_s: float, waited_s: float) -> None:
        if waited_s > self._max_wait_s:
            advice = "try again later" if self.has_token else "GITHUB_TOKEN raises the limit"
            raise TransientError(
                f"GitHub's rate limit is used up for another {limit_s:,.0f} s, and --max-wait is "
                f"{self._max_wait_s:,.0f}: {advice}"
            )

    def _backoff_s(self, failures: int) -> float:
        return min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** (failures - 1)) * (0.5 + self._jitter() / 2)

    def _wait(self, seconds: float, why: str) -> None:
        while seconds > 0:
            self._on_wait(seconds, why)
            self._sleep(min(1.0, seconds))
            seconds -= 1.0
        self._on_wait(0.0, why)

    def on_host(self, url: str, link: str) -> str:
        """Where `link`, in the answer to `url`, leads. Raises ConfigError for another host."""
        target = urljoin(url, link)
        if _origin(target) != self._origin:
            raise ConfigError(
                f"GitHub at {self.host} refers to another host, which is not followed; is "
                "--github-api right?"
            )
        # Our own host with its path: URL parsers disagree on odd ones.
        ours, theirs = urlsplit(self.base), urlsplit(target)
        return urlunsplit((ours.scheme, ours.netloc, theirs.path, theirs.query, ""))


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises ConfigError unless `url` is one of http or https."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ConfigError("GitHub's address, or a link it gave, is not a URL") from error
    return parts.scheme, parts.hostname or "", port


def _date(text: str) -> float | None:
    """An HTTP date in seconds since 1970, else None."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(text: str) -> float | None:
    """A whole number of seconds, however absurd, else None."""
    return float(text[:15]) if text.isascii() and text.isdigit() else None
