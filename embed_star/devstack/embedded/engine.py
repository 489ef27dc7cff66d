"""The SDK's embedded engine: opened for one database, one query at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
from surrealdb._surrealdb_ext import AsyncEmbeddedDB

from embed_star.devstack.embedded.rpc import FAILED, MalformedFrame, RpcError
from embed_star.errors import StoreUnavailable
from embed_star.store.bootstrap import user_sql
from embed_star.store.client.quoting import quoted

ENGINE_VERSION = "2.3.10"
"""surrealdb-core inside the SDK's wheel. Asked, the engine says the wheel's own version."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom the gateway serves, and the one database that it serves."""

    user: str
    password: str
    namespace: str
    database: str


class Engine:
    """An open engine. Its one session has the role EDITOR of one database."""

    def __init__(self, engine: AsyncEmbeddedDB) -> None:
        self._engine = engine
        # One query at a time: engine 2.3.10 does run frames concurrently, and then loses
        # writes. 800 increments of one field by 8 clients: 397 said OK, the field said 361.
        # 4 CREATEs of one id at once: two said OK in 37 of 200 rounds, which would hand one
        # lock to two owners. Behind this lock: 2,000 of 2,000, one winner in 300 of 300.
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path | None, scope: Scope) -> Engine:
        """Open the engine on `path`; None keeps the data in memory.

        The engine itself refuses what an EDITOR of the database may not do, however the
        statement is written: users, other databases, and everything above them. Raises
        StoreUnavailable.
        """
        try:
            engine = AsyncEmbeddedDB("mem://" if path is None else f"surrealkv://{path}")
            await engine.connect()
            defined = await _sign_in(engine, scope)
        except (RuntimeError, ValueError, LookupError) as error:
            raise StoreUnavailable(f"the embedded engine does not open {path}: {error}") from None
        if not defined:
            raise StoreUnavailable(
                f"the embedded engine does not define {scope.namespace}/{scope.database}"
            )
        return cls(engine)

    async def execute(self, frame: bytes) -> bytes:
        """Run one request; its answer. Raises RpcError and MalformedFrame."""
        async with self._one_at_a_time:
            try:
                return await self._engine.execute(frame)
            except ValueError:  # CBOR: of the request, or of the answer
                if not _is_cbor(frame):
                    raise MalformedFrame from None
                # A regex or a closure in the answer: the fault of this query only.
                raise RpcError(FAILED, "There is no CBOR for a value of the answer") from None
            except RuntimeError as error:  # a parse error, or parameters that do not fit
                raise RpcError(FAILED, str(error)) from None


async def _sign_in(engine: AsyncEmbeddedDB, scope: Scope) -> bool:
    """Define the database and its user, and become that user; False when one is not defined."""
    user, password = scope.user, secrets.token_hex(32)  # used here and nowhere else
    define = (
        f"DEFINE NAMESPACE IF NOT EXISTS {quoted(scope.namespace)};"
        f"DEFINE DATABASE IF NOT EXISTS {quoted(scope.database)};"
        f"{user_sql(user, password)}"
    )
    where = {"NS": scope.namespace, "DB": scope.database}

    async def ask(method: str, *params: Any) -> Any:
        frame = cbor2.dumps({"id": 0, "method": method, "params": params})
        answer: dict[str, Any] = cbor2.loads(await engine.execute(frame))
        return answer["result"]

    await ask("use", scope.namespace, scope.database)
    if any(statement["status"] != "OK" for statement in await ask("query", define)):
        return False
    await ask("signin", {**where, "user": user, "pass": password})
    return True


def lock_directory(path: Path) -> None:
    """Lock `path` until this process ends: the engine itself would let a second one in.

    Raises StoreUnavailable when another process has locked it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreUnavailable(f"another gateway serves {path} already") from None


def _is_cbor(frame: bytes) -> bool:
    try:
        cbor2.loads(frame, tag_hook=lambda tag, _: tag.tag)
    except (cbor2.CBORError, ValueError, TypeError):
        return False
    return True
