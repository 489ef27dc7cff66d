"""Starts one of our processes with a bug planted in it, to see that the lab finds it.

python -m tests.faults.planted BUG celery -A embed_star worker …
python -m tests.faults.planted BUG embed-star watch …
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from embed_star.claims.redis_locks import RedisLocks
from embed_star.produce.backlog import Backlog, Tick
from embed_star.produce.notifier import Notifier
from embed_star.produce.runs import RunStarter
from embed_star.providers import openai_compatible
from embed_star.store.client.connection import Connection
from embed_star.store.client.pool import Database
from embed_star.store.tables.locks import LockTable
from tasks.dispatch import CeleryDispatcher


def acknowledge_early() -> None:
    """A task is acknowledged when it begins: what dies with its process is handed to nobody."""
    import tasks.app

    right = tasks.app.configuration
    wrong = {"task_acks_late": False, "task_reject_on_worker_lost": False}
    tasks.app.configuration = lambda settings: right(settings) | wrong


def settle_early() -> None:
    """The outbox record goes when its row is claimed, instead of with the vector's write."""
    right = RunStarter._claim

    def claim(runs: Any, rows: Any, run_id: str) -> Any:
        won = right(runs, rows, run_id)
        database = runs._claims._records._database
        ids = [list(one) for row in won for one in row.outbox]
        database.query("DELETE embedding_outbox WHERE record::id(id) IN $ids", ids=ids)
        return won

    _replace(RunStarter, "_claim", claim)


def no_fence() -> None:
    """The bulk write does not look whether the locks are still its own."""
    _edit_queries(r"IF array::len\(\$held\) != \$count \{ THROW '[^']*' \}", "LET $planted = 0")


def trust_live() -> None:
    """The producer looks only when a notification came: no poll, nothing from the beginning."""
    heard = [False]
    next_notification, dispatch = Connection.next_notification, Backlog.dispatch

    def listen(connection: Any, timeout_s: float) -> bool:
        came = next_notification(connection, timeout_s)
        heard[0] = heard[0] or came
        return came

    def look(backlog: Any) -> Tick:
        if not heard[0]:
            return Tick(0, 0)
        heard[0] = False
        return dispatch(backlog)

    _replace(Connection, "next_notification", listen)
    _replace(Backlog, "dispatch", look)
    _replace(Backlog, "rewind", lambda *_: None)
    _replace(Notifier, "_listen_to_ledger", lambda *_: None)


def pair_by_position() -> None:
    """Vectors are taken in the order of the answer, whatever their index says."""
    _replace(
        openai_compatible,
        "in_order",
        lambda data, count, _: [one["embedding"] for one in data[:count]],
    )


def forget_to_release() -> None:
    """Locks stay when the work is done."""
    _edit_queries(r"DELETE \$locks RETURN NONE", "LET $planted = 0")
    _replace(LockTable, "release", lambda *_: None)
    _replace(RedisLocks, "release", lambda *_: None)


def never_reconcile() -> None:
    """Nobody looks for rows that no event has announced, such as those of a space before."""
    _replace(CeleryDispatcher, "reconcile", lambda *_: None)


def forget_passages() -> None:
    """A row is written without its passages, though it says how many they are."""
    _edit_queries(r"INSERT INTO \w+_passages \$passages RETURN NONE", "LET $planted = 0")


def _edit_queries(pattern: str, replacement: str) -> None:
    right = Database.query

    def query(database: Any, sql: str, **params: Any) -> list[Any]:
        return right(database, re.sub(pattern, replacement, sql), **params)

    _replace(Database, "query", query)


def _replace(owner: type | ModuleType, name: str, planted: Callable[..., Any]) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name} any more"
    setattr(owner, name, planted)


BUGS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        acknowledge_early,
        settle_early,
        no_fence,
        trust_live,
        pair_by_position,
        forget_to_release,
        never_reconcile,
        forget_passages,
    )
}


def main() -> None:
    _, bug, program, *arguments = sys.argv
    BUGS[bug]()
    sys.argv = [program, *arguments]
    if program == "celery":
        from celery.__main__ import main as celery

        celery()
    else:
        from embed_star.cli.main import main as embed_star

        embed_star()


if __name__ == "__main__":
    main()
