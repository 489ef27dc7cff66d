"""The embedded engine behind a small WebSocket server, so that several processes share it.

The SDK's engine serves one process for a path, and has a single session: that of a user with
the role EDITOR on one database. The gateway owns the engine and speaks SurrealDB's RPC (CBOR)
on ws://127.0.0.1:PORT/rpc. It checks the password itself, and passes `query` frames to the
engine unchanged.

    python -m embed_star.devstack.embedded.gateway \
        --path DIR --user NAME --namespace NS --database DB

The password comes from EMBED_STAR_GATEWAY_PASS. Exit code 0 after SIGTERM or SIGINT, 2
for a wrong argument, 1 when the engine or the port cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import ipaddress
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse
from websockets.typing import Subprotocol

from embed_star.devstack.embedded.clients import (
    MAX_STRANGER_FRAME_BYTES,
    Client,
)
from embed_star.devstack.embedded.engine import ENGINE_VERSION, Engine, Scope, lock_directory
from embed_star.devstack.embedded.rpc import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    NOT_SERVED,
    MalformedFrame,
    RpcError,
    RpcRequest,
    check_query,
    read_request,
)
from embed_star.errors import ConfigError, EmbedStarError

log = logging.getLogger(__name__)

PASSWORD_VARIABLE = "EMBED_STAR_GATEWAY_PASS"  # noqa: S105  the variable's name, no password
MAX_CLIENTS = 128
SIGN_IN_WITHIN_S = 10.0
DRAIN_S = 10.0
CLOSE_S = 2.0

_NONE = cbor2.CBORTag(6, None)


class Gateway:
    """Answers the clients of one engine."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope
        self._strangers: set[Client] = set()
        # The SDK's `authenticate` insists on the shape of a JWT.
        self._token = ".".join(secrets.token_urlsafe(24) for _ in range(3))
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def make_client(self, *arguments: Any, **named: Any) -> Client:
        """A connection that has just been accepted."""
        return Client(self._strangers, *arguments, **named)

    def admit(self, client: ServerConnection, request: HttpRequest) -> HttpResponse | None:
        """Refuse another path, one client too many, and any client while stopping."""
        if request.path != "/rpc":
            return client.respond(404, "SurrealDB's RPC is served at /rpc\n")
        if self._stopping or len(client.server.connections) >= MAX_CLIENTS:
            return client.respond(503, "no more clients now\n")
        return None

    async def serve(self, client: ServerConnection) -> None:
        """Answer one client, in order, until it leaves. An error ends only its connection."""
        assert isinstance(client, Client)  # noqa: S101  for mypy: `make_client` made it
        try:
            await self._converse(client)
        except ConnectionClosed:
            log.debug("a client left")
        except TimeoutError:
            await client.close(1008, f"no sign-in within {SIGN_IN_WITHIN_S:g} s")
        except MalformedFrame:
            log.warning("a malformed frame: its connection is closed")
            await client.close(1007, "malformed frame")
        except Exception as error:  # noqa: BLE001  an engine's panic ends one client, not all
            # Only the type: the engine's words quote queries and values.
            log.error("a request failed with %s", type(error).__name__)
            await client.close(1011, "internal error")

    async def _converse(self, client: Client) -> None:
        deadline = asyncio.get_running_loop().time() + SIGN_IN_WITHIN_S
        while True:
            async with asyncio.timeout_at(None if client.signed_in else deadline):
                frame = await client.recv()
            if self._stopping:
                return
            if isinstance(frame, str):
                await client.close(1003, "CBOR frames only")
                return
            with self._request_under_way():
                await client.send(await self._answer(frame, client))

    @contextmanager
    def _request_under_way(self) -> Iterator[None]:
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answer(self, frame: bytes, client: Client) -> bytes:
        request = read_request(frame)
        try:
            if request.method == "query" and client.signed_in:
                check_query(request.params)
                return await self._engine.execute(frame)
            return cbor2.dumps({"id": request.id, "result": self._own_result(request, client)})
        except RpcError as error:
            fault = {"code": error.code, "message": str(error)}
            return cbor2.dumps({"id": request.id, "error": fault})

    def _own_result(self, request: RpcRequest, client: Client) -> Any:
        """The result of a method that the gateway serves without the engine."""
        match request.method:
            case "ping":
                return _NONE
            case "version":
                return f"surrealdb-{ENGINE_VERSION}"
            case "use":
                self._check_use(request.params)
                return _NONE
            case "signin" | "authenticate":
                client.signed_in = False
                self._check_credentials(request)
                client.signed_in = True
                return self._token if request.method == "signin" else _NONE
        if not client.signed_in:
            raise RpcError(NOT_ALLOWED, "Sign in first")
        raise RpcError(NOT_SERVED, "Method not served by the embedded engine's gateway")

    def _check_use(self, params: Sequence[Any]) -> None:
        served = [self._scope.namespace, self._scope.database]
        if params != served:
            raise RpcError(
                NOT_ALLOWED, f"This gateway serves namespace {served[0]}, database {served[1]} only"
            )

    def _check_credentials(self, request: RpcRequest) -> None:
        given, scope = (request.params[0] if request.params else None), self._scope
        if request.method == "authenticate":
            granted = _same(given, self._token)
        elif isinstance(given, dict):
            # Both are compared whatever the first says: the time taken tells nothing.
            same_user = _same(given.get("user"), scope.user)
            granted = _same(given.get("pass"), scope.password) and same_user
        else:
            raise RpcError(INVALID_PARAMS, "Expected (params:object)")
        if not granted:
            log.warning("a sign-in was refused")
            raise RpcError(NOT_ALLOWED, "There was a problem with authentication")
        if isinstance(given, dict):
            namespace = given.get("NS", given.get("ns", scope.namespace))
            self._check_use([namespace, given.get("DB", given.get("db", scope.database))])

    async def drain(self) -> None:
        """Accept no more requests, and wait up to DRAIN_S for those under way."""
        self._stopping = True
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("a request outlasted %g s and is cut off: nothing of it stays", DRAIN_S)


def _same(given: object, expected: str) -> bool:
    text = given if isinstance(given, str) else ""
    return hmac.compare_digest(text.encode(), expected.encode())


async def run(options: argparse.Namespace, scope: Scope) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the address cannot be bound."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    # At DEBUG the library logs frames, passwords included; at ERROR, strangers' handshakes.
    library_log = log.getChild("websockets")
    library_log.setLevel(logging.CRITICAL)
    gateway = Gateway(await Engine.open(options.path, scope), scope)
    server = await serve(
        gateway.serve,
        options.host,
        options.port,
        # A browser sends its page's origin; no page may try passwords here.
        origins=[None],
        subprotocols=[Subprotocol("cbor")],
        compression=None,
        process_request=gateway.admit,
        create_connection=gateway.make_client,  # type: ignore[arg-type]  # any callable will do
        max_size=MAX_STRANGER_FRAME_BYTES,
        max_queue=1,
        close_timeout=CLOSE_S,
        logger=library_log,
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    sys.stdout.write(f"listening on ws://{host}:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    await gateway.drain()
    server.close()
    # Bounded: a connection whose request was cut off would be waited for without end.
    await asyncio.wait([asyncio.ensure_future(server.wait_closed())], timeout=2 * CLOSE_S)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="embed_star.devstack.embedded.gateway", description=__doc__
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--path", type=Path, help="directory of the data")
    where.add_argument("--memory", action="store_true", help="keep nothing")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0: chosen by the system")
    for name in ("--user", "--namespace", "--database"):
        parser.add_argument(name, required=True)
    options = parser.parse_args(argv)
    try:
        loopback = ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError("--host must be a loopback address, such as 127.0.0.1 or ::1")
    if not 0 <= options.port <= 65535:
        raise ConfigError("--port must be from 0 to 65535")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s gateway: %(message)s")
    try:
        options = _arguments(argv)
        password = os.environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise ConfigError(f"{PASSWORD_VARIABLE} must hold the gateway's password")
        if options.path is not None:
            options.path = options.path.resolve()
            lock_directory(options.path)
        scope = Scope(options.user, password, options.namespace, options.database)
        asyncio.run(run(options, scope))
    except (EmbedStarError, OSError) as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    # Not sys.exit: the engine's close() does nothing, its threads live on, and a bare script
    # that ended soon after its last query was aborted by them 7 times of 25 (exit code 134).
    # A commit is with the operating system before its answer, so nothing is left to flush.
    os._exit(exit_code)
