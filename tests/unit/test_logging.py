"""Logs: one line an event, whatever is in it, whoever wrote it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from embed_star.observe.logging import configure

HOSTILE = 'a\nb\r\n\x1b[31mred\x1b[0m\0 {"event": "forged"} \u2028 \ud800 ü'


class Written:
    """What has been written to stderr so far."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capture.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Written(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(written: Written) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(stderr: Written) -> None:
    configure("INFO", "json")
    structlog.get_logger("embed_star.x").info("claimed", rows=3, run_id="r")
    (line,) = lines(stderr)
    assert line["event"] == "claimed"
    assert (line["rows"], line["run_id"], line["level"]) == (3, "r", "info")
    assert line["logger"] == "embed_star.x"
    assert line["timestamp"].endswith("Z")


def test_no_value_makes_a_second_line(stderr: Written) -> None:
    configure("INFO", "json")
    structlog.get_logger("x").warning(HOSTILE, reason=HOSTILE, odd=[HOSTILE])
    assert stderr.getvalue().count("\n") == 1
    assert stderr.getvalue().isascii()
    (line,) = lines(stderr)
    assert line["reason"] == line["event"] == HOSTILE


def test_what_libraries_log_looks_the_same(stderr: Written) -> None:
    configure("INFO", "json")
    logging.getLogger("celery.worker").warning("lost %s", HOSTILE, extra={"node": "a"})
    (line,) = lines(stderr)
    assert line["event"] == f"lost {HOSTILE}"
    assert (line["level"], line["logger"], line["node"]) == ("warning", "celery.worker", "a")


def test_a_traceback_stays_in_its_line(stderr: Written) -> None:
    configure("INFO", "json")
    try:
        raise RuntimeError(HOSTILE)
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(stderr)
    assert "RuntimeError" in line["exception"]


def test_ids_that_are_bound_are_in_every_line(stderr: Written) -> None:
    configure("INFO", "json")
    with structlog.contextvars.bound_contextvars(run_id="r1"):
        structlog.get_logger("x").info("a")
        logging.getLogger("y").info("b")
    structlog.get_logger("x").info("c")
    assert [line.get("run_id") for line in lines(stderr)] == ["r1", "r1", None]


def test_lines_below_the_level_are_left_out(stderr: Written) -> None:
    configure("WARNING", "json")
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [line["event"] for line in lines(stderr)] == ["loud"]


def test_chatty_libraries_are_hushed(stderr: Written) -> None:
    configure("DEBUG", "json")
    for name in ("websockets.client", "urllib3.connectionpool"):
        logging.getLogger(name).debug("a frame with a password in it")
    structlog.get_logger("x").debug("ours")
    assert [line["event"] for line in lines(stderr)] == ["ours"]


def test_configured_twice_logs_once(stderr: Written) -> None:
    configure("DEBUG", "console")
    configure("INFO", "json")
    structlog.get_logger("x").info("once")
    assert [line["event"] for line in lines(stderr)] == ["once"]


def test_auto_is_json_where_nobody_watches(stderr: Written) -> None:
    configure("INFO", "auto")
    structlog.get_logger("x").info("claimed")
    assert lines(stderr)[0]["event"] == "claimed"


def test_console_is_for_people(stderr: Written) -> None:
    configure("INFO", "console")
    structlog.get_logger("x").info("claimed", rows=3)
    assert "claimed" in stderr.getvalue()
    assert not stderr.getvalue().startswith("{")
