"""Reads the RPC envelope of a request, and refuses requests that the gateway does not serve."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

# The codes of a real server (3.3.5).
FAILED, NOT_ALLOWED, NOT_SERVED, INVALID_PARAMS = -32000, -32002, -32601, -32603

_SUSPECT = re.compile(r"\b(?:LIVE|KILL|USE)\b", re.IGNORECASE)
_NOT_CODE = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`|⟨[^⟩]*⟩|(?:--|//|\#)[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)
_NOT_SERVED = re.compile(r"\b(LIVE)\s+SELECT\b|(?:^|[;{(])\s*(KILL|USE)\b(?!\s*:)", re.IGNORECASE)
_HINTS = {
    "LIVE": "it never notifies, so poll",
    "KILL": "it never notifies, so poll",
    "USE": "one database is served, to one user, who has no right elsewhere",
}


class RpcError(Exception):
    """The error that a client gets instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class MalformedFrame(Exception):
    """The frame is no RPC request. The gateway closes its connection."""


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """An envelope. Of a peeked query, `params` holds only the text."""

    id: int | str
    method: str
    params: list[Any]


def _peek_query(frame: bytes) -> RpcRequest | None:
    """The envelope of a query, without decoding its variables; None when it must be decoded.

    2 µs against 2.3 ms for 100 rows of 768 floats. The map must have exactly the keys
    id, method, params in this order, as every SDK sends them: nothing can follow the
    parameters that would mean another method to the engine.
    """
    if frame[:1] != b"\xa3":
        return None
    decoder = cbor2.CBORDecoder(io.BytesIO(frame))
    decoder.read(1)
    if decoder.decode() != "id":
        return None
    request_id = decoder.decode()
    if [decoder.decode() for _ in range(3)] != ["method", "query", "params"]:
        return None
    if not isinstance(request_id, int | str) or decoder.read(1) not in (b"\x81", b"\x82"):
        return None
    return RpcRequest(request_id, "query", [decoder.decode()])


def read_request(frame: bytes) -> RpcRequest:
    """The request in a frame. Raises MalformedFrame unless it has an id and a method."""
    try:
        request = _peek_query(frame)
        if request is not None:
            return request
        envelope = cbor2.loads(frame)
    except cbor2.CBORDecodeError:
        raise MalformedFrame from None
    match envelope:
        case {"id": int() | str() as request_id, "method": str(method)}:
            params = envelope.get("params")
            return RpcRequest(request_id, method, params if isinstance(params, list) else [])
    raise MalformedFrame


def check_query(params: Sequence[Any]) -> None:
    """Raise RpcError for statements that the engine accepts but does not honour.

    LIVE SELECT never notifies, and after USE the engine refuses every statement. This is a
    hint for users and no protection: the engine decides by its role what a session may do.
    The check ignores words in strings, comments and quoted names.
    """
    if not params or not isinstance(params[0], str):
        raise RpcError(INVALID_PARAMS, "Expected query to be string")
    if not _SUSPECT.search(params[0]):
        return
    found = _NOT_SERVED.search(_NOT_CODE.sub(" ", params[0]))
    if found:
        word = (found[1] or found[2]).upper()
        raise RpcError(
            NOT_SERVED, f"{word} is not served by the embedded engine's gateway: {_HINTS[word]}"
        )
