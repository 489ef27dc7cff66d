"""Two fleets share database and Redis: with other models, or messages of another version."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from embed_star.devstack.processes import Child
from embed_star.models import MESSAGE_VERSION
from tests.support.checker import payments
from tests.support.command_line import embed_star
from tests.support.fleet import Fleet, Tenant, log_lines
from tests.support.servers import eventually

ROWS = 300
SETTLED_S = 3.0
"""From the migration on: the old fleet looks once a second, and a call may be under way."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def old(fleet: Fleet) -> Iterator[Tenant]:
    fleet.provider.reset()
    made = fleet.tenant(BATCH_SIZE="5", CHORD_BATCHES="3")
    yield made
    made.stop()


def migrated(fleet: Fleet, old: Tenant, model: str) -> Tenant:
    """The same database after `embed-star migrate` with another model, without processes."""
    own = {"DB_DATABASE": old.settings.db_database, "EMBEDDING_MODEL": model}
    return fleet.tenant(**{**old.env, **own})


def events(child: Child, name: str) -> list[dict[str, Any]]:
    return [line for line in log_lines(child) if line["event"] == name]


def stored(tenant: Tenant) -> dict[str, str]:
    """Key → run of each vector of the tenant's space."""
    (rows,) = tenant.lab.query(f"SELECT id, run FROM {tenant.lab.services.space.table}")
    return {str(row["id"]): row["run"] for row in rows}


def test_a_change_of_model_under_load(fleet: Fleet, old: Tenant) -> None:
    fleet.provider.script(latency_ms=400)
    children = [old.worker(), old.worker(), old.producer()]
    keys = old.lab.insert(ROWS)
    eventually(lambda: old.lab.embedded(keys) >= ROWS // 5, "a part is embedded")

    new = migrated(fleet, old, f"{old.settings.model}-new")
    migrated_at = time.time()
    before = stored(old)
    assert len(before) < ROWS, "the old fleet was done already: this test shows nothing now"
    newer = [new.worker(), new.worker(), new.producer()]
    for key in keys[:20]:
        new.lab.edit(key, description=f"edited {key}")
    keys += old.lab.insert(50)
    eventually(lambda: new.lab.embedded(keys) == len(keys), "all is in the new space", 60.0)
    new.lab.await_quiet()

    report = new.lab.report()
    report.assert_kept()
    assert report.embedded == ROWS + 50
    assert stored(old) == before
    ledger = fleet.provider.ledger()
    of_old = [entry for entry in ledger if entry["model"] == old.settings.model]
    assert max(entry["at"] for entry in of_old) < migrated_at + SETTLED_S
    assert max(payments(of_old).values()) == 1
    for child in children:
        assert not child.ended.is_set()
        assert len(events(child, "space_retired")) == 1
        assert len(events(child, "message_put_back")) < 20
    assert [event for child in newer for event in events(child, "message_put_back")] == []
    assert [event for child in newer for event in events(child, "message_set_aside")] == []
    new.stop()


def test_and_back(fleet: Fleet, old: Tenant) -> None:
    """The old fleet was left running, and goes on."""
    worker, producer = old.worker(), old.producer()
    # One that only starts after the migration refuses to.
    eventually(lambda: bool(events(producer, "leading")), "it leads")
    new = migrated(fleet, old, f"{old.settings.model}-new")
    eventually(lambda: bool(events(worker, "takes_no_messages")), "it stands by")
    keys = old.lab.insert(20)
    store = old.lab.services.store
    assert store.spaces.ensure(old.lab.services.space, old.settings.text_fields)
    eventually(lambda: old.lab.embedded(keys) == len(keys), "its space is filled", 30.0)
    assert len(events(worker, "takes_messages_again")) == 1
    old.lab.await_quiet()
    old.lab.report().assert_kept()
    assert stored(new) == {}
    new.stop()


def send(tenant: Tenant, message: dict[str, Any], **headers: int) -> None:
    with tenant.app() as app:
        app.send_task("embed_star.embed_batch", (message,), headers=headers)


def test_a_message_of_a_newer_version_is_put_back_with_a_delay(fleet: Fleet, old: Tenant) -> None:
    worker = old.worker()
    send(old, {"v": MESSAGE_VERSION + 1, "all": "different"})
    eventually(lambda: bool(events(worker, "message_put_back")), "it is put back")
    old.lab.insert(10)
    old.dispatch()
    old.lab.await_quiet()  # it is in nobody's way

    def retries() -> int:
        return sum(" retry: " in line["event"] for line in log_lines(worker))

    eventually(lambda: retries() >= 2, "it comes again")
    assert retries() <= 4  # within seconds: no hot loop
    (told,) = events(worker, "message_put_back")
    assert told["level"] == "error"
    assert f"version {MESSAGE_VERSION + 1}" in told["reason"]


def test_a_message_that_nobody_understands_ends_set_aside(fleet: Fleet, old: Tenant) -> None:
    worker = old.worker()
    message = {"v": MESSAGE_VERSION + 1, "all": "different"}
    send(old, message, put_back=8)
    eventually(lambda: bool(events(worker, "message_set_aside")), "it is set aside")
    (letter,) = old.lab.services.dead_letters.read()
    assert letter["task"] == "embed_star.embed_batch"
    assert letter["message"]["args"] == [message]
    said = embed_star("status", env=old.env).assert_worked()
    assert re.search(r"not understood +1 messages", said)
    assert Counter(line["event"] for line in log_lines(worker))["batch_failed"] == 0
