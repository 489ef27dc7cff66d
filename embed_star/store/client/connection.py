"""One WebSocket to SurrealDB: signed in, one query at a time, every status checked.

The SDK's own connection would not do. It checks the first statement only, which is BEGIN
on 3.x, so a failed transaction goes unnoticed. It has no receive time-out. After an
interrupted receive, it gives each caller the answer of the call before.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from embed_star.errors import (
    AlreadyExists,
    FenceLost,
    SpaceRetired,
    StoreAuthError,
    StoreError,
    StoreUnavailable,
    WriteConflict,
)
from embed_star.store.client import codec

FENCE = "embed_star: fence lost"
"""Our transactions THROW this when the run does not hold one of its locks any more."""

RETIRED = "embed_star: space retired"
"""Our transactions THROW this when the space is no longer the active one."""

MAX_FRAME_BYTES = 256 * 1024 * 1024
NO_RIGHT = (
    "the database user has no right to do this: give it the role EDITOR, as "
    "`embed-star migrate --bootstrap` does"
)
_NO_ANSWER = "SurrealDB: what came is no answer of SurrealDB's; is DB_URL that of a SurrealDB?"
_TOO_FEW = "not enough permissions"
_REFUSALS = ("permission", "authenticat", "not allowed", "session has expired")
_NOT_THE_CAUSE = ("was not executed", "Cannot COMMIT: the transaction was aborted")


@dataclass(frozen=True, slots=True)
class Target:
    """The server, the user and the database. `root` signs in above the database, to bootstrap."""

    url: str
    user: str
    password: str = field(repr=False)
    namespace: str
    database: str
    root: bool = False
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0


class Connection:
    """An open connection: its constructor connects, signs in and selects the database.

    Raises StoreUnavailable when the server does not answer in time, and StoreAuthError
    when it refuses the user. A connection that is `broken` must be closed and not used
    again: an answer may still arrive on it.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.created = time.monotonic()
        self.broken = False
        self._ids = itertools.count(1)
        self._stack = contextlib.ExitStack()
        self._socket = self._open()
        try:
            self._limit_sending()
            self._sign_in()
            self.version = parse_version(str(self._call("version", [], target.connect_timeout_s)))
        except BaseException:
            self.close()
            raise

    def query(
        self, sql: str, params: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> list[Any]:
        """Run `sql`; the result of each of its statements.

        Raises the error of the statement that failed. Raises StoreUnavailable when no
        answer comes within `timeout_s` (default: the target's); it is then unknown whether
        the server did the work.
        """
        answers = self._call("query", [sql, params or {}], timeout_s or self.target.timeout_s)
        if not _are_statements(answers):
            self.broken = True
            raise StoreError(_NO_ANSWER)
        failed = [one for one in answers if one["status"] != "OK"]
        if failed:
            raise _statement_error(failed)
        return [one["result"] for one in answers]

    def listen(self, table: str) -> UUID:
        """Start a live query for new records in `table`; its id.

        `next_notification` waits for its notifications. Raises StoreError when the server
        has no live queries.
        """
        # `table` is one of our constants. The rows themselves are not sent along.
        (live_id,) = self.query(f"LIVE SELECT VALUE 1 FROM {table} WHERE $event = 'CREATE'")
        if not isinstance(live_id, UUID):
            raise StoreError("SurrealDB: this server gives no live queries")
        return live_id

    def unlisten(self, live_id: UUID) -> None:
        """End a live query. Notifications that it has sent may still arrive."""
        self._call("kill", [live_id], self.target.timeout_s)

    def next_notification(self, timeout_s: float) -> bool:
        """Wait for a notification; False when none came. Raises StoreUnavailable."""
        try:
            self._socket.recv(timeout=timeout_s)
        except TimeoutError:
            return False
        except (WebSocketException, OSError) as error:
            self.broken = True
            raise StoreUnavailable(self._lost(error)) from error
        return True

    def close(self) -> None:
        """Close the socket without waiting for the server. A second call changes nothing."""
        self.broken = True
        # A half-open peer would keep the closing handshake waiting.
        with contextlib.suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(WebSocketException, OSError):
            self._stack.close()

    def _open(self) -> ClientConnection:
        target = self.target
        try:
            return self._stack.enter_context(
                connect(
                    f"{target.url}/rpc",
                    subprotocols=[Subprotocol("cbor")],
                    open_timeout=target.connect_timeout_s,
                    close_timeout=1,
                    ping_interval=target.timeout_s,
                    ping_timeout=target.timeout_s,
                    max_size=MAX_FRAME_BYTES,
                    compression=None,
                )
            )
        except (WebSocketException, OSError, TimeoutError) as error:
            raise StoreUnavailable(
                f"cannot reach SurrealDB at {target.url} ({_brief(error)}); is it running, and is "
                "DB_URL right?"
            ) from error

    def _limit_sending(self) -> None:
        """Set a time-out for sending, which the library does not have.

        Without it, a frame larger than the socket's buffers would wait for ever for a
        half-open server.
        """
        seconds, rest = divmod(self.target.timeout_s, 1)
        self._socket.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6))
        )

    def _sign_in(self) -> None:
        target = self.target
        credentials = {"user": target.user, "pass": target.password}
        if not target.root:
            credentials |= {"NS": target.namespace, "DB": target.database}
        try:
            self._call("signin", [credentials], target.connect_timeout_s)
            self._call("use", [target.namespace, target.database], target.connect_timeout_s)
        except StoreUnavailable:
            raise
        except StoreError as error:
            refused = f"SurrealDB at {target.url} refused user {target.user!r}"
            if target.root:
                advice = ": check ROOT_DB_USER and ROOT_DB_PASS, those of SurrealDB's root user"
            else:
                advice = (
                    f" for {target.namespace}/{target.database}: check DB_USER, DB_PASS, "
                    "DB_NAMESPACE and DB_DATABASE; `embed-star migrate --bootstrap` makes the user"
                )
            raise StoreAuthError(refused + advice) from error

    def _call(self, method: str, params: Sequence[Any], timeout_s: float) -> Any:
        number = next(self._ids)
        frame = codec.encode({"id": number, "method": method, "params": params})
        try:
            self._socket.send(frame)
            answer = self._answer(number, time.monotonic() + timeout_s)
        except (WebSocketException, OSError, TimeoutError) as error:
            self.broken = True
            raise StoreUnavailable(self._lost(error)) from error
        except BaseException:
            self.broken = True
            raise
        if "error" in answer:
            raise _rpc_error(answer["error"])
        return answer["result"]

    def _answer(self, number: int, deadline: float) -> Mapping[str, Any]:
        """The answer to call `number`. Raises StoreError for a frame that is no answer."""
        while True:
            frame = self._socket.recv(timeout=max(0.0, deadline - time.monotonic()))
            answer = codec.decode(_bytes(frame))
            if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
                raise StoreError(_NO_ANSWER)
            if answer.get("id") == number:  # else a live notification
                return answer

    def _lost(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"SurrealDB at {self.target.url} did not answer in time (DB_TIMEOUT_S)"
        return f"the connection to SurrealDB at {self.target.url} broke ({_brief(error)})"


def parse_version(text: str) -> tuple[int, ...]:
    """`surrealdb-3.3.5` → (3, 3, 5)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _bytes(frame: str | bytes) -> bytes:
    return frame if isinstance(frame, bytes) else frame.encode()


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def _are_statements(answers: Any) -> bool:
    return isinstance(answers, list) and all(
        isinstance(one, dict) and one.keys() >= {"status", "result"} for one in answers
    )


def _statement_error(failed: Sequence[Mapping[str, Any]]) -> Exception:
    # One failed statement fails its whole transaction: the others only say so.
    messages = [str(one["result"]) for one in failed]
    causes = [m for m in messages if not any(note in m for note in _NOT_THE_CAUSE)]
    return error_of((causes or messages)[0])


def _rpc_error(error: Any) -> Exception:
    known = isinstance(error, Mapping)
    return error_of(str(error.get("message", "unknown error") if known else error))


def _shortened(message: str) -> str:
    """One line: of a long message, its beginning and its end. The message may quote a row's
    text and name the wrong field only after it."""
    line = " ".join(message.split())
    return line if len(line) <= 300 else f"{line[:100]} … {line[-200:]}"


def error_of(message: str) -> Exception:
    """Our error for a message of SurrealDB. Server 2.3 and 3.x use the same words."""
    line = _shortened(message)
    if FENCE in message:
        return FenceLost("a lock of this run is no longer this run's")
    if RETIRED in message:
        return SpaceRetired("another space is the active one")
    if "can be retried" in message or "Transaction conflict" in message:
        return WriteConflict(f"SurrealDB: {line}")
    if "already exists" in message:
        return AlreadyExists(f"SurrealDB: {line}")
    lowered = message.lower()
    if _TOO_FEW in lowered:
        return StoreAuthError(f"{NO_RIGHT} ({line})")
    if any(words in lowered for words in _REFUSALS):
        return StoreAuthError(f"SurrealDB refused: {line}")
    return StoreError(f"SurrealDB: {line}")
