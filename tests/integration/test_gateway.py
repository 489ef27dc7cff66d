"""The embedded engine's gateway: a real process, real WebSockets, a plain CBOR client."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import cbor2
import pytest
import surrealdb._surrealdb_ext as engine_module
from websockets.asyncio.client import connect as connect_async
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from embed_star.devstack.embedded import gateway
from embed_star.devstack.embedded.clients import MAX_FRAME_BYTES, MAX_STRANGERS
from embed_star.devstack.embedded.engine import ENGINE_VERSION, Scope

PASSWORD = "canary-password"
CREDENTIALS = {"user": "embed_star", "pass": PASSWORD}
CBOR = Subprotocol("cbor")
PROMPT_S = 10.0  # no answer within it is a failure; nothing here takes a second
START_S = 60.0  # for a process, on a busy machine, to start and to refuse


class Refused(Exception):
    """The gateway answered with an RPC error."""


class Client:
    """As little of a SurrealDB client as these tests need."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._last_id = 0

    def send(self, method: str, *params: Any) -> None:
        self._last_id += 1
        frame = {"id": self._last_id, "method": method, "params": list(params)}
        self.socket.send(cbor2.dumps(frame))

    def receive(self) -> Any:
        frame = self.socket.recv(PROMPT_S)
        assert isinstance(frame, bytes)
        answer = cbor2.loads(frame)
        assert answer["id"] == self._last_id
        if "error" in answer:
            assert isinstance(answer["error"]["code"], int)
            raise Refused(answer["error"]["message"])
        return answer["result"]

    def call(self, method: str, *params: Any) -> Any:
        self.send(method, *params)
        return self.receive()

    def query(self, text: str, **variables: Any) -> list[Any]:
        """The statements' results; Refused with the words of the first that failed."""
        statements = self.call("query", text, variables)
        for statement in statements:
            if statement["status"] != "OK":
                raise Refused(statement["result"])
        return [statement["result"] for statement in statements]


class Process:
    """A running gateway. `stderr` is what it has logged."""

    def __init__(self, url: str, popen: subprocess.Popen[str], log: Path) -> None:
        self.url, self.popen, self._log = url, popen, log

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @contextmanager
    def client(self, *, signed_in: bool = True) -> Iterator[Client]:
        with connect(self.url + "/rpc", subprotocols=[CBOR], max_size=None) as socket:
            client = Client(socket)
            if signed_in:
                client.call("signin", CREDENTIALS)
            yield client

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(signum)
        return self.popen.wait(PROMPT_S)


def command(*where: str, host: str = "127.0.0.1") -> list[str]:
    """The command line, from inside this checkout or an installation."""
    scope = ["--user", "embed_star", "--namespace", "gitstars", "--database", "stars"]
    return [sys.executable, "-m", gateway.__name__, *where, "--host", host, *scope]


def environment(password: str | None = PASSWORD) -> dict[str, str]:
    """This process's, with the password or without one."""
    inherited = {k: v for k, v in os.environ.items() if k != gateway.PASSWORD_VARIABLE}
    return inherited if password is None else {**inherited, gateway.PASSWORD_VARIABLE: password}


@contextmanager
def running(log: Path, *where: str, host: str = "127.0.0.1") -> Iterator[Process]:
    """A gateway that listens; killed at the end if it still runs."""
    with (
        log.open("a") as stderr,
        subprocess.Popen(
            command(*where, host=host),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as popen,
    ):
        try:
            assert popen.stdout is not None
            line = popen.stdout.readline()
            found = re.fullmatch(r"listening on (ws://.+:\d+)\n", line)
            assert found, (line, log.read_text())
            yield Process(found[1], popen, log)
        finally:
            popen.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One in-memory gateway for the tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("gateway") / "log", "--memory") as process:
        yield process


@pytest.fixture
def client(shared: Process) -> Iterator[Client]:
    with shared.client() as client:
        yield client


def peak_mb(pid: int) -> float:
    """The most memory that the process has held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def refuse_to_start(
    *where: str, host: str = "127.0.0.1", password: str | None = PASSWORD
) -> tuple[int, str]:
    done = subprocess.run(
        command(*where, host=host),
        env=environment(password),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


class TestStart:
    @pytest.mark.parametrize("password", [None, ""])
    def test_refuses_to_start_without_a_password(self, password: str | None) -> None:
        code, said = refuse_to_start("--memory", password=password)
        assert code == 2
        assert gateway.PASSWORD_VARIABLE in said

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104  refused
    def test_refuses_an_address_that_is_no_loopback(self, host: str) -> None:
        code, said = refuse_to_start("--memory", host=host)
        assert code == 2
        assert "loopback" in said

    def test_refuses_a_path_that_is_no_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert refuse_to_start("--path", str(tmp_path / "file"))[0] == 1

    def test_refuses_a_directory_that_another_serves(self, tmp_path: Path) -> None:
        with running(tmp_path / "log", "--path", str(tmp_path / "data")):
            code, said = refuse_to_start("--path", str(tmp_path / "data"))
        assert code == 1
        assert "another gateway" in said

    def test_refuses_a_port_that_is_taken(self, shared: Process) -> None:
        port = shared.url.rpartition(":")[2]
        assert refuse_to_start("--memory", "--port", port)[0] == 1

    def test_version_is_the_engine_s(self) -> None:
        # The engine says the wheel's version; the truth is in the wheel's strings.
        with (
            Path(engine_module.__file__).open("rb") as library,
            mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            found = re.search(rb"surrealdb-core-(\d+\.\d+\.\d+)", content)
            assert found
            assert found[1].decode() == ENGINE_VERSION


class TestSignIn:
    @pytest.mark.parametrize("method", ["query", "info", "let", "live", "no_such_method"])
    def test_is_required(self, shared: Process, method: str) -> None:
        with shared.client(signed_in=False) as stranger, pytest.raises(Refused, match="Sign in"):
            stranger.call(method, "RETURN 1", {})

    def test_is_not_required_for_version_ping_and_use(self, shared: Process) -> None:
        with shared.client(signed_in=False) as stranger:
            assert stranger.call("version") == "surrealdb-2.3.10"
            stranger.call("ping")
            stranger.call("use", "gitstars", "stars")

    @pytest.mark.parametrize(
        "given",
        [
            {"user": "embed_star", "pass": "wrong"},
            {"user": "root", "pass": PASSWORD},
            {"user": "embed_star"},
            {"user": "embed_star", "pass": None},
            {},
        ],
    )
    def test_refuses_others(self, shared: Process, given: dict[str, Any]) -> None:
        with shared.client(signed_in=False) as stranger:
            with pytest.raises(Refused, match="problem with authentication"):
                stranger.call("signin", given)
            with pytest.raises(Refused, match="Sign in"):
                stranger.query("RETURN 1")

    @pytest.mark.parametrize("names", [("NS", "DB"), ("ns", "db")])
    def test_may_name_the_one_database(self, shared: Process, names: tuple[str, str]) -> None:
        with shared.client(signed_in=False) as client:
            where = dict(zip(names, ("gitstars", "stars"), strict=True))
            assert isinstance(client.call("signin", {**CREDENTIALS, **where}), str)
            with pytest.raises(Refused, match="gitstars, database stars"):
                client.call("signin", {**CREDENTIALS, names[0]: "other"})

    def test_that_fails_ends_the_one_before(self, client: Client) -> None:
        with pytest.raises(Refused, match="problem with authentication"):
            client.call("signin", {**CREDENTIALS, "pass": "wrong"})
        with pytest.raises(Refused, match="Sign in"):
            client.query("RETURN 1")

    def test_works_by_token(self, shared: Process) -> None:
        with shared.client(signed_in=False) as first, shared.client(signed_in=False) as second:
            token = first.call("signin", CREDENTIALS)
            with pytest.raises(Refused, match="problem with authentication"):
                second.call("authenticate", token[:-1])
            second.call("authenticate", token)
            assert second.query("RETURN 1") == [1]

    def test_that_takes_too_long_ends_the_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gateway, "SIGN_IN_WITHIN_S", 0.05)
        idle = gateway.Gateway(cast(Any, None), Scope("u", "p", "n", "d"))

        async def close_code() -> int | None:
            async with serve(
                idle.serve,
                "127.0.0.1",
                0,
                subprotocols=[CBOR],
                create_connection=idle.make_client,  # type: ignore[arg-type]  # any callable will do
            ) as server:
                port = server.sockets[0].getsockname()[1]
                async with connect_async(f"ws://127.0.0.1:{port}", subprotocols=[CBOR]) as socket:
                    await socket.wait_closed()
                    return socket.close_code

        assert asyncio.run(asyncio.wait_for(close_code(), PROMPT_S)) == 1008


class TestWhatIsServed:
    def test_only_the_one_database_can_be_used(self, client: Client) -> None:
        client.call("use", "gitstars", "stars")
        for other in (("gitstars", "other"), ("other", "stars"), (None, None), ()):
            with pytest.raises(Refused, match="namespace gitstars, database stars"):
                client.call("use", *other)
        assert client.query("RETURN [session::ns(), session::db()]") == [["gitstars", "stars"]]

    @pytest.mark.parametrize("method", ["live", "kill", "let", "unset", "signup", "info", "create"])
    def test_no_other_method(self, client: Client, method: str) -> None:
        with pytest.raises(Refused, match="not served by the embedded engine's gateway"):
            client.call(method, "repo")

    @pytest.mark.parametrize(
        "text",
        [
            "LIVE SELECT * FROM embedding_outbox",
            "RETURN 1; live\n select diff FROM repo",
            "KILL u'018f4a3e-0000-7000-8000-000000000000'",
            "RETURN 1; /* */ kill $id",
            "USE NS other DB other; SELECT * FROM secret",
        ],
    )
    def test_no_live_kill_or_use(self, client: Client, text: str) -> None:
        with pytest.raises(Refused, match="not served by the embedded engine's gateway"):
            client.query(text)

    @pytest.mark.parametrize(
        "before",
        [
            "",
            "RETURN 1;",
            "RETURN <string>/'/;",
            "RETURN s'\\'';",
            "LET $use = /;`/;",
            "/* ' */",
        ],
    )
    @pytest.mark.parametrize(
        "text",
        [
            "DEFINE USER x ON ROOT PASSWORD 'x' ROLES OWNER",
            "DEFINE USER OVERWRITE embed_star ON DATABASE PASSWORD 'x' ROLES OWNER",
            "remove/**/namespace\n gitstars",
            "REMOVE DATABASE stars",
            "INFO FOR ROOT",
            "IF true { DEFINE NAMESPACE other }",
            "DEFINE ACCESS x ON DATABASE TYPE RECORD",
        ],
    )
    def test_no_management_however_it_is_written(
        self, client: Client, before: str, text: str
    ) -> None:
        with pytest.raises(Refused, match="Not enough permissions"):
            client.query(f"{before} {text}; RETURN <string>/'/")

    @pytest.mark.parametrize(
        "text",
        [
            "USE NS other DB other; CREATE x:1",
            "USE DB other; INFO FOR DB",
            "USE DB other; DEFINE TABLE x",
            "USE NS other; DEFINE DATABASE x",
            "USE NS other DB other; REMOVE TABLE x",
        ],
    )
    def test_no_other_database_when_use_is_hidden(self, client: Client, text: str) -> None:
        hidden = f"RETURN <string>/'/; {text}; RETURN <string>/'/"
        with pytest.raises(Refused, match="Not enough permissions"):
            client.query(hidden)
        assert client.query("RETURN [session::ns(), session::db()]") == [["gitstars", "stars"]]

    @pytest.mark.parametrize(
        "text",
        [
            "RETURN 'LIVE SELECT'",
            'RETURN "it\'s; KILL it"',
            "-- don't LIVE SELECT here\nRETURN 1",
            "/* ; USE this */ RETURN 1",
            "RETURN { kill: 1, `use`: 2, live: 3 }",
            "SELECT kill, live FROM [{ kill: 1 }]",
            "DEFINE TABLE IF NOT EXISTS user; INFO FOR DB; INFO FOR TABLE user",
            "SELECT user, access, root FROM [{ user: 'DEFINE USER', ns: 1 }]",
        ],
    )
    def test_words_within_texts_and_comments_are_no_statements(
        self, client: Client, text: str
    ) -> None:
        client.query(text)

    def test_a_query_that_does_not_parse_is_an_error_of_its_own(self, client: Client) -> None:
        with pytest.raises(Refused, match="Parse error"):
            client.query("SELECT FROM WHERE")
        assert client.query("RETURN 1") == [1]

    @pytest.mark.parametrize(
        "frame",
        [
            {"params": ["RETURN $a", {"a": 7}], "method": "query", "id": 1},
            {"id": "one", "method": "query", "params": ["RETURN $a", {"a": 7}], "version": 1},
            {"id": 1, "method": "query", "params": ["RETURN 7"]},
        ],
    )
    def test_a_request_s_keys_may_have_any_order(
        self, client: Client, frame: dict[str, Any]
    ) -> None:
        client.socket.send(cbor2.dumps(frame))
        answer = cbor2.loads(cast(bytes, client.socket.recv(PROMPT_S)))
        assert answer["id"] == frame["id"]
        assert answer["result"][0]["result"] == 7

    def test_the_method_that_is_checked_is_the_one_that_is_done(self, client: Client) -> None:
        # The engine takes the last of two keys; a peek at the first would let `use` through.
        client.socket.send(b"\xa4bid\x01fmethodequeryfparams\x82aaabfmethodcuse")
        answer = cbor2.loads(cast(bytes, client.socket.recv(PROMPT_S)))
        assert "gitstars" in answer["error"]["message"]


class TestHandshake:
    def test_another_path_is_refused(self, shared: Process) -> None:
        self._refused(404, lambda: connect(shared.url + "/sql", subprotocols=[CBOR]))

    def test_a_client_without_the_subprotocol_is_refused(self, shared: Process) -> None:
        self._refused(400, lambda: connect(shared.url + "/rpc"))

    def test_a_web_page_is_refused(self, shared: Process) -> None:
        page = Origin("http://evil.example")
        self._refused(403, lambda: connect(shared.url + "/rpc", subprotocols=[CBOR], origin=page))

    def test_one_client_too_many_is_refused(self, tmp_path: Path) -> None:
        with running(tmp_path / "log", "--memory") as process, ExitStack() as clients:
            for _ in range(gateway.MAX_CLIENTS):
                last = clients.enter_context(process.client())
            self._refused(503, lambda: connect(process.url + "/rpc", subprotocols=[CBOR]))
            last.call("ping")

    def test_one_stranger_too_many_is_refused(self, tmp_path: Path) -> None:
        """Also when they say nothing at all; who has signed in before is served on."""
        with (
            running(tmp_path / "log", "--memory") as process,
            process.client() as client,
            ExitStack() as strangers,
        ):
            host, _, port = process.url.removeprefix("ws://").rpartition(":")
            for _ in range(MAX_STRANGERS):
                last = socket.create_connection((host, int(port)))
                strangers.enter_context(last)
            # Closed at once: how a client sees that depends on how far it was by then.
            with pytest.raises((OSError, InvalidHandshake, ConnectionClosed, EOFError)):
                connect(process.url + "/rpc", subprotocols=[CBOR])
            assert client.query("RETURN 1") == [1]
            last.close()
            with process.client() as another:
                assert another.query("RETURN 1") == [1]

    @staticmethod
    def _refused(status: int, attempt: Callable[[], Any]) -> None:
        with pytest.raises(InvalidStatus) as caught, attempt():
            pass
        assert caught.value.response.status_code == status


class TestBadClients:
    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (b"", 1007),
            (b"\xff", 1007),
            (b"\x81" * 100_000, 1007),
            (cbor2.dumps([1]), 1007),
            (cbor2.dumps({"id": 1}), 1007),
            (cbor2.dumps({"id": [1], "method": "ping"}), 1007),
            # Its envelope is sound, its variables are not: the engine says so.
            (b"\xa3bid\x01fmethodequeryfparams\x82hRETURN 1\xa1aa", 1007),
            ('{"id": 1, "method": "ping"}', 1003),
            (bytes(MAX_FRAME_BYTES + 1), 1009),
        ],
        ids=["empty", "break", "deep", "list", "no-method", "odd-id", "torn", "json", "huge"],
    )
    def test_a_malformed_frame_ends_its_client_only(
        self, shared: Process, client: Client, frame: bytes | str, code: int
    ) -> None:
        with shared.client() as bad:
            with suppress(ConnectionClosed):  # before a huge one is through
                bad.socket.send(frame)
            with pytest.raises(ConnectionClosed):
                bad.socket.recv(PROMPT_S)
            assert bad.socket.close_code == code
        assert client.query("RETURN 1") == [1]

    def test_a_stranger_s_frames_cost_next_to_nothing(self, tmp_path: Path) -> None:
        large = cbor2.dumps({"id": 1, "method": "ping", "params": [0] * (16 * 2**20)})
        small = [b"\x9a\xff\xff\xff\xff", b"\x5b" + b"\x00\x00\x00\xff" * 2, b"\x81" * 4000]
        small += [cbor2.dumps({"id": 1, "method": "ping", "params": [0] * 4000})]
        with running(tmp_path / "log", "--memory") as process:
            with process.client() as client:
                client.query("RETURN 1")
            before = peak_mb(process.popen.pid)
            for frame in [large, *small] * 3:
                with process.client(signed_in=False) as stranger, suppress(ConnectionClosed):
                    stranger.socket.send(frame)
                    stranger.socket.recv(PROMPT_S)
            with process.client(signed_in=False) as stranger:  # and the same in fragments
                with suppress(ConnectionClosed):
                    stranger.socket.send(large[at : at + 2000] for at in range(0, 2**20, 2000))
                with pytest.raises(ConnectionClosed):
                    stranger.socket.recv(PROMPT_S)
                assert stranger.socket.close_code == 1009
            assert peak_mb(process.popen.pid) - before < 8

    def test_who_has_signed_in_may_send_much(self, shared: Process, client: Client) -> None:
        text = "x" * 16 * 2**20
        assert client.query("RETURN string::len($words)", words=text) == [len(text)]
        with pytest.raises(Refused, match="problem with authentication"):
            client.call("signin", {**CREDENTIALS, "pass": "wrong"})
        with suppress(ConnectionClosed):  # a stranger again
            client.send("query", "RETURN 1", {"text": text})
        with pytest.raises(ConnectionClosed):
            client.receive()

    def test_a_client_that_leaves_early_has_its_query_finished(
        self, shared: Process, client: Client
    ) -> None:
        with shared.client() as leaver:
            leaver.send("query", "RETURN sleep(100ms); CREATE left:1", {})
            # It runs: whoever signs in now was seen by the gateway after it.
            with shared.client():
                leaver.socket.socket.close()
        assert client.query("SELECT VALUE id.id() FROM left; DELETE left")[0] == [1]

    def test_nothing_of_theirs_is_logged(self, tmp_path: Path) -> None:
        with running(tmp_path / "log", "--memory") as process:
            with process.client() as client:
                for text in ("CANARY SELECT", "THROW 'CANARY'", "RETURN $CANARY"):
                    client.send("query", text, {"CANARY": "CANARY"})
                    client.socket.recv(PROMPT_S)
                with pytest.raises(Refused):
                    client.call("signin", {"user": "CANARY", "pass": "CANARY"})
                client.socket.send(b"\xffCANARY")
            with pytest.raises(InvalidStatus), connect(process.url + "/CANARY"):
                pass
            assert process.stop() == 0
            said = process.stderr
        assert "a sign-in was refused" in said
        assert not re.search(f"CANARY|Traceback|{PASSWORD}", said), said


class TestTransactions:
    def test_two_clients_at_once_lose_nothing(self, shared: Process) -> None:
        with shared.client() as setup:
            setup.query("CREATE counter:1 SET n = 0")
        together = threading.Barrier(4)

        def add(_: int) -> None:
            with shared.client() as client:
                together.wait(PROMPT_S)
                for _ in range(50):
                    client.query("BEGIN; UPDATE counter:1 SET n += 1; CREATE added; COMMIT")

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add, range(4)))
        with shared.client() as check:
            result = check.query("SELECT VALUE n FROM counter; RETURN count(SELECT id FROM added)")
        assert result == [[200], 200]

    def test_one_of_two_takes_a_lock(self, shared: Process) -> None:
        together = threading.Barrier(2)

        def take(owner: int) -> set[int]:
            won = set()
            with shared.client() as client:
                for number in range(50):
                    together.wait(PROMPT_S)
                    try:
                        client.query("CREATE type::thing('lock', $n) SET o = $o", n=number, o=owner)
                    except Refused as refusal:
                        assert "already exists" in str(refusal)  # noqa: PT017  either may happen
                    else:
                        won.add(number)
            return won

        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(take, range(2))
        assert not first & second
        assert first | second == set(range(50))

    def test_an_open_one_is_not_seen(self, shared: Process, client: Client) -> None:
        with shared.client() as other:
            other.send(
                "query", "BEGIN; CREATE draft:1; LET $w = sleep(50ms); THROW 'no'; COMMIT", {}
            )
            with shared.client():  # the gateway has seen the frame
                assert client.query("SELECT * FROM draft") == [[]]
            statuses = [statement["status"] for statement in other.receive()]
        assert set(statuses) == {"ERR"}

    def test_a_failed_one_leaves_nothing(self, client: Client) -> None:
        with pytest.raises(Refused, match="failed transaction"):
            client.query("BEGIN; CREATE half:1; CREATE half:2; CREATE half:1; COMMIT")
        with pytest.raises(Refused, match="COMMIT"):
            client.query("BEGIN; CREATE half:3")
        assert client.query("SELECT * FROM half") == [[]]

    def test_variables_stay_with_their_query(self, shared: Process, client: Client) -> None:
        client.query("LET $mine = 7; RETURN $mine")
        with shared.client() as other:
            assert other.query("RETURN $mine = NONE") == [True]

    def test_events_fire_in_the_same_transaction(self, client: Client) -> None:
        client.query(
            "DEFINE EVENT changed ON repo WHEN $event = 'CREATE' OR $before.text != $after.text"
            " THEN { CREATE outbox SET repo = $value.id, event = $event }"
        )
        client.query("CREATE repo:1 SET text = 'a', stars = 1; UPDATE repo:1 SET stars = 2")
        client.query("UPDATE repo:1 SET text = 'b'")
        with pytest.raises(Refused):
            client.query("BEGIN; CREATE repo:2 SET text = 'c'; THROW 'no'; COMMIT")
        events = client.query("SELECT VALUE [repo.id(), event] FROM outbox")[0]
        assert sorted(map(tuple, events)) == [(1, "CREATE"), (1, "UPDATE")]


class TestStop:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_closes_every_connection_cleanly(
        self, tmp_path: Path, signum: signal.Signals
    ) -> None:
        with (
            running(tmp_path / "log", "--memory", host="::1") as process,
            process.client() as idle,
        ):
            assert process.stop(signum) == 0
            with pytest.raises(ConnectionClosed):
                idle.socket.recv(PROMPT_S)
            assert idle.socket.close_code == 1001
            assert process.stderr == ""

    def test_finishes_the_request_under_way_and_keeps_the_data(self, tmp_path: Path) -> None:
        where = ("--path", str(tmp_path / "new" / "da ta"))
        with running(tmp_path / "log", *where) as process, process.client() as client:
            client.query("CREATE kept:1")
            client.send("query", "RETURN sleep(200ms); CREATE kept:2", {})
            with process.client():  # the gateway has seen the frame
                assert process.stop() == 0
            assert client.receive()[1]["status"] == "OK"
        with running(tmp_path / "log", *where) as process, process.client() as client:
            assert client.query("SELECT VALUE id.id() FROM kept") == [[1, 2]]
            client.query("CREATE kept:3")
            process.popen.kill()
            process.popen.wait(PROMPT_S)
        with running(tmp_path / "log", *where) as process, process.client() as client:
            assert client.query("SELECT VALUE id.id() FROM kept") == [[1, 2, 3]]
