"""The Celery app, without a broker: what is registered, and under which rules."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery, signals
from celery.utils.dispatch import Signal

from embed_star.observe.health import Heartbeat
from embed_star.settings import load_settings
from tasks import queue_names
from tasks.app import create_app
from tasks.base import state_of
from tasks.worker import stand_by
from tasks.worker.scheduler import Scheduler
from tasks.worker.signals import on
from tests.support.command_line import run
from tests.support.servers import PROMPT_S

NAMES = {
    "embed_star.embed_batch",
    "embed_star.store_embeddings",
    "embed_star.sweep_backlog",
    "embed_star.reconcile",
    "embed_star.maintain_index",
}
"""Permanent: a message in somebody's queue names them."""

IMPORT_ALL = """
import importlib, json, pkgutil
import beat_schedule, tasks
for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
    importlib.import_module(module.name)
from celery import _state, signals
receivers = [s.name for s in vars(signals).values() if getattr(s, "receivers", None)]
print(json.dumps([len(list(_state._get_active_apps())), receivers]))
"""


@pytest.fixture
def app() -> Iterator[Celery]:
    settings = load_settings(_env_file=None, db_pass="x", retry_max=5)
    with create_app(settings) as made:
        yield made


def test_the_tasks_have_their_permanent_names(app: Celery) -> None:
    assert {name for name in app.tasks if not name.startswith("celery.")} == NAMES


def test_importing_the_tasks_registers_nothing() -> None:
    apps, receivers = json.loads(run(sys.executable, "-c", IMPORT_ALL).assert_worked())
    assert (apps, receivers) == (0, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # JSON only, both ways and for results.
        ("accept_content", ["json"]),
        ("result_accept_content", ["json"]),
        ("task_serializer", "json"),
        ("result_serializer", "json"),
        # A task that dies with its worker is handed out again.
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("worker_prefetch_multiplier", 1),
        ("worker_disable_prefetch", True),
        ("broker_connection_retry_on_startup", True),
        ("broker_channel_error_retry", True),
        ("worker_pool", "threads"),
        ("result_chord_ordered", True),
        ("timezone", "UTC"),
    ],
)
def test_the_configuration(app: Celery, name: str, value: Any) -> None:
    assert app.conf[name] == value


def test_the_limits_of_embed_batch_come_from_the_settings(app: Celery) -> None:
    embed = app.tasks["embed_star.embed_batch"]
    assert embed.max_retries == 5


def test_two_apps_of_one_process_share_nothing(app: Celery) -> None:
    with create_app(load_settings(_env_file=None, db_pass="x")) as other:
        assert other.tasks["embed_star.embed_batch"].max_retries == 3
    assert app.tasks["embed_star.embed_batch"].max_retries == 5


class WorkController:
    """Stands for Celery's worker: the sender of its signals."""

    def __init__(self, app: Celery) -> None:
        self.app = app


@pytest.fixture
def other() -> Iterator[Celery]:
    with create_app(load_settings(_env_file=None, db_pass="x", db_database="other")) as made:
        yield made


def test_each_app_of_a_process_has_its_own_services(app: Celery, other: Celery) -> None:
    services = [one.tasks["embed_star.embed_batch"].services for one in (app, other)]
    assert [one.settings.db_database for one in services] == ["stars", "other"]
    assert [state_of(one).services for one in (app, other)] == services
    assert state_of(app).listeners is not state_of(other).listeners


def test_closing_the_services_of_one_app_leaves_those_of_another(
    app: Celery, other: Celery
) -> None:
    before, kept = state_of(app).services, state_of(other).services
    state_of(app).close_services()
    assert state_of(app).services is not before
    assert state_of(other).services is kept


def test_each_app_of_a_process_has_its_own_beat(app: Celery, other: Celery) -> None:
    for one in (app, other):
        state_of(one).beat_heartbeat = Heartbeat(0.0, clock=iter((0.0, 1.0)).__next__)
    Scheduler(app, lazy=True).tick()
    assert state_of(app).beat_heartbeat.stuck()
    assert state_of(other).beat_heartbeat.resting


def test_a_signal_reaches_the_receivers_of_its_app_only(app: Celery, other: Celery) -> None:
    heard: list[str] = []
    signal = Signal(name="test")
    on(signal, app, lambda **_: heard.append("app"))
    on(signal, other, lambda **_: heard.append("other"))
    signal.send(sender=other.tasks["embed_star.reconcile"])
    with app:
        app.set_current()
        signal.send(sender="celery@host")  # as the child of a pool does
    assert heard == ["other", "app"]


def test_a_worker_that_ends_closes_the_services_of_its_app_only(app: Celery, other: Celery) -> None:
    ended, kept = state_of(app).services, state_of(other).services
    signals.worker_shutdown.send(sender=WorkController(app=app))
    assert state_of(app).services is not ended
    assert state_of(other).services is kept


def test_the_watch_on_the_space_outlives_an_error_that_nobody_expected(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the worker would take messages that are for others, or none ever again.
    monkeypatch.setattr(stand_by, "EVERY_S", 0.01)
    errors = [ValueError("a bug")]

    def is_retired(*, at_once: bool) -> bool:
        if errors:
            raise errors.pop()
        return at_once

    vars(state_of(app).services.store)["space_watch"] = SimpleNamespace(is_retired=is_retired)
    left = threading.Event()
    consumer = WorkController(app=app)
    vars(consumer)["call_soon"] = lambda *_: left.set()
    signals.worker_ready.send(sender=consumer)
    assert left.wait(PROMPT_S)
    signals.worker_shutdown.send(sender=WorkController(app=app))


def test_each_app_of_a_process_asks_for_its_own_prefix(app: Celery, other: Celery) -> None:
    stand_ins = [one.conf.broker_transport_options["global_keyprefix"] for one in (app, other)]
    for one, name in ((app, "first"), (other, "second")):
        state_of(one).services.installation = name
    prefixes = [queue_names.known(stand_in) for stand_in in stand_ins]
    assert ["first" in prefixes[0], "second" in prefixes[1]] == [True, True]
    assert queue_names.known(prefixes[0]) == prefixes[0]


def test_nothing_is_kept_as_a_result(app: Celery) -> None:
    # A chord's body is handed the outcomes all the same.
    assert [name for name in NAMES if not app.tasks[name].ignore_result] == []


def test_every_scheduled_task_exists_and_goes_to_a_queue_that_workers_read(app: Celery) -> None:
    queues = {queue.name for queue in app.conf.task_queues}
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in NAMES
        assert app.amqp.router.route({}, entry["task"])["queue"].name in queues
        assert entry["options"]["expires"] == entry["schedule"]


def test_each_kind_of_work_has_its_queue(app: Celery) -> None:
    bindings = {name: queue.routing_key for name, queue in app.amqp.queues.items()}
    assert bindings == {name: name for name in ("embed", "store", "sweep")}
    queue = {name: app.amqp.router.route({}, name)["queue"].name for name in NAMES}
    assert queue["embed_star.embed_batch"] == "embed"
    assert queue["embed_star.store_embeddings"] == "store"


def test_a_closed_connection_is_a_broken_one(app: Celery) -> None:
    # Else a restart of Redis ends workers; test_broker_restart.py shows it, now and then.
    channel_class = app.connection_for_read().transport.Channel
    channel = channel_class.__new__(channel_class)
    channel.connection = None
    with pytest.raises(redis.ConnectionError):
        channel._connparams()


def test_no_result_is_waited_for(app: Celery) -> None:
    app.AsyncResult("some id").then(lambda _: None)
    assert app.backend.result_consumer.subscribed_to == set()


def test_the_visibility_timeout_and_socket_deadlines_reach_the_broker(app: Celery) -> None:
    options = app.conf.broker_transport_options
    assert options["visibility_timeout"] == 300
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 5
