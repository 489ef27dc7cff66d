"""Tracing where there is none: no endpoint, no package; and ids that follow from the run's."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from celery import signals

from embed_star.errors import ConfigError
from embed_star.events import Listeners
from embed_star.observe.tracing import Tracing
from embed_star.settings import load_settings
from tasks import tracing
from tasks.app import create_app

ENDPOINT = "http://127.0.0.1:9/v1/traces"
RUN_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(autouse=True)
def _alone(clean_environment: None) -> None:
    """No setting in the environment."""


def test_without_an_endpoint_nothing_listens() -> None:
    settings = load_settings(_env_file=None, db_pass="x")
    before = [len(signal.receivers) for signal in (signals.task_prerun, signals.task_postrun)]
    with create_app(settings) as app:
        listeners = Listeners()
        created = [len(signal.receivers) for signal in (signals.task_prerun, signals.task_postrun)]
        with tracing.start(app, settings, listeners, "test"):
            after = [
                len(signal.receivers) for signal in (signals.task_prerun, signals.task_postrun)
            ]
    assert created == after
    assert before[0] == after[0]  # of the app itself, only the end of tasks is listened to
    assert listeners._listeners == []


def test_without_the_package_an_endpoint_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "embed_star.observe.tracing")
    settings = load_settings(_env_file=None, db_pass="x", tracing_endpoint=ENDPOINT)
    with create_app(settings) as app, pytest.raises(ConfigError, match=r"embed-star\[tracing\]"):
        tracing.start(app, settings, Listeners(), "test")


@pytest.fixture
def made() -> Iterator[Tracing]:
    one = Tracing(ENDPOINT, 1.0, "test")
    yield one
    one.close()


def test_a_trace_has_the_ids_of_the_run(made: Tracing) -> None:
    assert made.traceparent(RUN_ID) == f"00-{RUN_ID}-4bf92f3577b34da6-01"


def test_of_a_run_that_is_not_sampled_nothing_travels() -> None:
    none = Tracing(ENDPOINT, 0.0, "test")
    assert none.traceparent(RUN_ID) is None
    none.close()


def test_a_context_that_is_junk_is_a_trace_of_its_own(made: Tracing) -> None:
    with made.task("embed_batch", "not a traceparent", {}) as span:
        assert f"{span.get_span_context().trace_id:032x}" != RUN_ID
