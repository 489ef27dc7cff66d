"""The server of metrics and probes: paths, methods, and clients that mean no good."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from embed_star.errors import ConfigError
from embed_star.observe import server as observe_server
from embed_star.observe.health import Heartbeat, ProbeResult, Readiness, liveness
from embed_star.observe.server import CONNECTIONS, MonitoringServer
from tests.support.metrics_page import get


class Process:
    """What the server asks."""

    def __init__(self) -> None:
        self.stuck: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.bug: Exception | None = None

    def live(self) -> ProbeResult:
        if self.bug:
            raise self.bug
        return liveness(lambda: self.stuck)

    def ready(self) -> ProbeResult:
        return Readiness({"redis": lambda: self.missing}).answer()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Process, int]]:
    """One server for all tests, for its end takes as long as it looks for one; and its port."""
    process, registry = Process(), CollectorRegistry()
    Counter("seen", "Of this test", registry=registry).inc(7)
    server = MonitoringServer(registry, live=process.live, ready=process.ready)
    server.bind("127.0.0.1", 0)
    server.serve()
    yield process, server.port
    server.close()


@pytest.fixture
def process(served: tuple[Process, int]) -> Process:
    """All is well with it, until the test says otherwise."""
    process, _ = served
    process.stuck, process.missing, process.bug = {}, {}, None
    return process


@pytest.fixture
def port(served: tuple[Process, int], process: Process) -> int:
    return served[1]


def test_metrics_are_served(port: int) -> None:
    status, body = get(port, "/metrics")
    assert status == 200
    assert "seen_total 7.0" in body


def test_probes_answer_200_when_all_is_well(port: int) -> None:
    assert get(port, "/livez") == (200, '{"live": true}\n')
    assert get(port, "/readyz") == (200, '{"ready": true}\n')


def test_probes_say_what_is_wrong(port: int, process: Process) -> None:
    process.stuck = {"consumer": "has not moved for 31 s"}
    process.missing = {"redis": "Redis does not answer"}
    status, body = get(port, "/livez")
    assert (status, body) == (
        503,
        '{"live": false, "stuck": {"consumer": "has not moved for 31 s"}}\n',
    )
    status, body = get(port, "/readyz")
    assert (status, body) == (
        503,
        '{"ready": false, "missing": {"redis": "Redis does not answer"}}\n',
    )


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
def test_head_is_get_without_the_body(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.read() == b""
    connection.close()


@pytest.mark.parametrize("path", ["/", "/metricsx", "/metrics/", "/favicon.ico", "/../etc/passwd"])
def test_other_paths_are_not_found(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(port: int, method: str) -> None:
    assert get(port, "/metrics", method)[0] == 405


def test_a_bug_in_a_probe_is_a_500_without_a_word(port: int, process: Process) -> None:
    process.bug = RuntimeError("s3cret")
    status, body = get(port, "/livez")
    assert status == 500
    assert "s3cret" not in body
    process.bug = None
    assert get(port, "/livez")[0] == 200


def test_clients_that_say_nothing_block_nobody(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3 * CONNECTIONS)]
    try:
        assert get(port, "/livez", timeout_s=3)[0] == 200
    finally:
        for one in silent:
            one.close()


def test_a_client_that_drips_is_cut_off_by_those_that_come_later(port: int) -> None:
    slow = socket.create_connection(("127.0.0.1", port))
    slow.sendall(b"GET /met")
    for _ in range(CONNECTIONS):
        socket.create_connection(("127.0.0.1", port)).close()
    assert get(port, "/livez")[0] == 200
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    slow.settimeout(3)
    assert slow.recv(1) == b""
    for one in (slow, *silent):
        one.close()


def test_a_silent_client_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe_server._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=3) as silent:
        assert silent.recv(1) == b""


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00" * 50, b"GET\r\n\r\n", b"A" * 100_000])
def test_a_malformed_request_does_no_harm(port: int, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as client:
        client.sendall(junk)
    assert get(port, "/livez")[0] == 200


def test_a_port_that_is_taken_is_said_in_one_sentence(port: int, process: Process) -> None:
    other = MonitoringServer(CollectorRegistry(), live=process.live, ready=process.ready)
    with pytest.raises(ConfigError, match=f"MONITORING_PORT: port {port} is taken"):
        other.bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_one_sentence(process: Process) -> None:
    other = MonitoringServer(CollectorRegistry(), live=process.live, ready=process.ready)
    with pytest.raises(ConfigError, match="MONITORING_HOST, MONITORING_PORT: cannot listen on"):
        other.bind("203.0.113.1", 1)


class TestHeartbeat:
    def test_a_loop_that_stands_still_is_stuck(self) -> None:
        now = [0.0]
        heartbeat = Heartbeat(30.0, clock=lambda: now[0])
        heartbeat.beat()
        now[0] = 30.0
        assert heartbeat.stuck() == ""
        now[0] = 31.0
        assert heartbeat.stuck() == "has not moved for 31 s"
        heartbeat.beat()
        assert heartbeat.stuck() == ""

    def test_a_loop_that_waits_for_others_is_not(self) -> None:
        now = [0.0]
        heartbeat = Heartbeat(30.0, clock=lambda: now[0])
        assert (heartbeat.resting, heartbeat.stuck()) == (True, "")
        heartbeat.beat()
        heartbeat.rest()
        now[0] = 1000.0
        assert (heartbeat.resting, heartbeat.stuck()) == (True, "")
