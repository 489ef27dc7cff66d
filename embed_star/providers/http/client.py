"""The HTTP client of all providers: JSON in, JSON out, or an error of ours.

Each provider has one pooled session. Every call has a deadline for all of it and a limit on
the size of the answer. It follows no redirect, which would carry the key along, and does not
retry: retries are up to the caller.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url, urldefragauth

from embed_star.errors import (
    EmbedStarError,
    InputRejected,
    ProviderProtocolError,
    ProviderUnavailable,
    ShuttingDown,
)
from embed_star.providers.error_responses import Endpoint, error_for
from embed_star.providers.http.deadline import Deadline, DeadlineAdapter, Limits, in_force
from embed_star.providers.http.error_bodies import Refusal
from embed_star.providers.http.rate_limit_headers import quota_pause
from embed_star.providers.http.retry_after import asked_wait_s
from embed_star.providers.http.transport_errors import FOREIGN, answer_of_proxy, failure, is_silence
from embed_star.providers.ssrf import check_base_url

CHUNK_BYTES = 65_536
REFUSAL_BYTES = 65_536
"""Bytes read of an error's body: enough to tell kinds of errors apart."""

Explain = Callable[[Refusal], EmbedStarError | None]
"""A provider's own reading of a refusal; None leaves it to `error_for`."""


class Answer(NamedTuple):
    """A success."""

    body: dict[str, Any]
    quota_pause_s: float | None
    """By its headers; see `rate_limit_headers`."""


class Refused(NamedTuple):
    """An error response: by its status, or an error body inside a success."""

    refusal: Refusal
    error: EmbedStarError
    """The error to raise unless the provider can be asked in another way."""


class JsonClient:
    """POSTs JSON below one base URL. Safe to call from several threads.

    Raises ConfigError when built with a base URL that cannot be one, and only errors of
    the ProviderError and ProviderUnavailable branches afterwards, or ShuttingDown.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        pool_size: int = 1,
        explain: Explain | None = None,
    ) -> None:
        check_base_url(endpoint.base_url, endpoint.url_setting)
        self.endpoint = endpoint
        self._limits = limits
        self._explain = explain
        self._base_url = urldefragauth(endpoint.base_url).rstrip("/")
        self._session = _session(endpoint, pool_size)
        self._noting = threading.Lock()
        self._under_way: set[Deadline] = set()
        self._is_aborted = False
        # After a silence, the next calls may be silent for the whole of theirs: a model that
        # takes longer to load than the read time-out would otherwise be cut off, and with some
        # servers (Ollama) begin anew, for ever.
        self._was_silent = False

    def abort(self) -> None:
        """End the running calls and every later call with ShuttingDown."""
        with self._noting:
            self._is_aborted = True
            under_way = list(self._under_way)
        for deadline in under_way:
            deadline.abort()

    def close(self) -> None:
        """Close idle connections. May be called more than once."""
        self._session.close()

    def deadline(self) -> Deadline:
        """A deadline that begins now and that several calls may share."""
        return Deadline.of(self._limits, patient=self._was_silent)

    def post(
        self, path: str, payload: Mapping[str, Any], deadline: Deadline | None = None
    ) -> Answer | Refused:
        """POST `payload` to `path`: the JSON object that it answers, or the error it answers.

        It returns or raises by `deadline` (a new one where there is none). The request
        is sent once; nothing is retried.
        """
        deadline = deadline or self.deadline()
        body = _encode(payload, self.endpoint)
        try:
            with (
                self._noted(deadline),
                in_force(deadline),
                self._session.post(
                    f"{self._base_url}/{path}", data=body, **self._bounds(deadline)
                ) as response,
            ):
                self._was_silent = False
                headers, status = response.headers, response.status_code
                if not 200 <= status < 300:
                    return self._refused(Refusal.of(status, _error_body(response)), headers)
                content = self._read(response, self._limits.response_bytes)
        except FOREIGN as error:
            self._was_silent = self._was_silent or is_silence(error)
            raise failure(error, self.endpoint, self._limits, deadline) from None
        answer = self._decode(content, headers.get("Content-Type", ""))
        if inner := Refusal.inside(answer):
            return self._refused(inner, headers)
        if not isinstance(answer, dict):
            raise ProviderProtocolError(
                f"{self.endpoint.label} answered JSON that is no embeddings answer; "
                f"check {self.endpoint.url_setting}"
            )
        return Answer(answer, quota_pause(headers))

    @contextmanager
    def _noted(self, deadline: Deadline) -> Iterator[None]:
        """In the block, `abort` reaches the call."""
        with self._noting:
            if self._is_aborted:
                raise ShuttingDown(f"no call to {self.endpoint.provider} begins any more")
            self._under_way.add(deadline)
        try:
            yield
        finally:
            with self._noting:
                self._under_way.discard(deadline)

    def _bounds(self, deadline: Deadline) -> dict[str, Any]:
        """What every request is sent with."""
        left = max(deadline.remaining_s(), 0.001)  # requests refuses a time-out of 0
        timeout = (min(self._limits.connect_s, left), min(deadline.silence_s, left))
        return {"stream": True, "allow_redirects": False, "timeout": timeout}

    def _read(self, response: requests.Response, limit: int) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced[:20]) > limit:
            raise self._too_big(limit)
        content = bytearray()
        for chunk in response.iter_content(CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                raise self._too_big(limit)
        return bytes(content)

    def _refused(self, refusal: Refusal, headers: Mapping[str, str]) -> Refused:
        wait_s = asked_wait_s({**refusal.headers, **headers}, refusal.wait_s, refusal.words)
        explained = self._explain(refusal) if self._explain else None
        error = (
            explained
            or answer_of_proxy(refusal, self.endpoint)
            or error_for(refusal, self.endpoint, wait_s)
        )
        if isinstance(error, InputRejected):
            error.said = refusal.said
        return Refused(refusal, error)

    def _decode(self, content: bytes, media_type: str) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            if content.lstrip()[:1] in (b"", b"{"):
                # The length was not said, or said wrong: HTTP could not tell that it is torn.
                raise ProviderUnavailable(f"{self.endpoint.label} broke off its answer") from None
            kind = re.sub(r"[^\w/+.-].*", "", media_type)[:40] or "no content type"
            raise ProviderProtocolError(
                f"{self.endpoint.label} answered something that is not JSON ({kind}); "
                f"check {self.endpoint.url_setting}"
            ) from None

    def _too_big(self, limit: int) -> ProviderProtocolError:
        return ProviderProtocolError(
            f"{self.endpoint.label} answered more than {limit} bytes; lower BATCH_SIZE, or check "
            f"{self.endpoint.url_setting}"
        )


def _error_body(response: requests.Response) -> bytes:
    body = bytearray()
    try:
        for chunk in response.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) >= REFUSAL_BYTES:
                break
    except FOREIGN:
        pass  # the status is known, and says more than a body that broke off
    return bytes(body[:REFUSAL_BYTES])


def _encode(payload: Mapping[str, Any], endpoint: Endpoint) -> bytes:
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InputRejected(
            f"a text for {endpoint.provider} holds a lone surrogate, which no server takes"
        ) from None


class _Bearer(AuthBase):
    """Sends the key, or nothing at all.

    Always given to requests, because without an `auth` it looks into ~/.netrc and puts
    what it finds there in the place of the key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._key = endpoint.key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key := self._key.get_secret_value():
            request.headers["Authorization"] = f"Bearer {key}"
        return request


class _Session(requests.Session):
    """Reads what the environment says of proxies and certificates once.

    requests reads it before each request, by a walk over all variables: a fifth of a call's cost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_environment: dict[str, Any] = {}

    def merge_environment_settings(self, url: str, *given: Any) -> Any:  # type: ignore[override]
        """What requests does, once a URL: there are few, and `given` is always the same."""
        if url not in self._of_environment:
            self._of_environment[url] = super().merge_environment_settings(url, *given)
        return self._of_environment[url]


def _session(endpoint: Endpoint, pool_size: int) -> requests.Session:
    session = _Session()
    user, password = get_auth_from_url(endpoint.base_url)
    has_login = bool(user or password) and not endpoint.key.get_secret_value()
    session.auth = HTTPBasicAuth(user, password) if has_login else _Bearer(endpoint)
    session.headers.update({"Content-Type": "application/json", "User-Agent": "embed-star"})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = DeadlineAdapter(pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
