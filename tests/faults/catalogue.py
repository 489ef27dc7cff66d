"""The table of faults: for each number its cases, and where else it is tried, or why not here."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.cases import (
    disk,
    failover,
    installations,
    processes,
    provider,
    readmes,
    redis,
    rows,
    surrealdb,
)
from tests.faults.fault import Fault

FAULTS: tuple[Fault, ...] = tuple(
    sorted(
        (
            one
            for module in (
                processes,
                redis,
                failover,
                surrealdb,
                provider,
                rows,
                readmes,
                disk,
                installations,
            )
            for one in vars(module).values()
            if isinstance(one, Fault)
        ),
        key=lambda one: one.id,
    )
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. `tests` are node ids of tests elsewhere."""

    what: str
    tests: tuple[str, ...] = ()
    why_not: str = ""
    """Why no process is made to suffer it here."""


TABLE: dict[int, Row] = {
    1: Row(
        "SIGKILL of a pool child in the middle of a call",
        ("tests/celery/test_worker.py::test_a_killed_pool_child_costs_its_call_only",),
    ),
    2: Row("SIGKILL of the whole worker"),
    3: Row("killed after paying, before the write"),
    4: Row("killed after the write, before the acknowledgement"),
    5: Row(
        "SIGTERM: drain",
        ("tests/celery/test_shutdown.py",),
    ),
    6: Row(
        "two SIGTERMs, SIGQUIT",
        ("tests/celery/test_shutdown.py::test_a_second_signal_does_not_wait_for_the_grace",),
        "Those tests do it to workers of both pools, with calls that never end.",
    ),
    7: Row(
        "a visibility timeout shorter than a task may run",
        ("tests/unit/test_settings.py::TestRules::test_redis_does_not_hand_out_what_runs",),
        "The settings refuse it, so no process ever starts with it.",
    ),
    8: Row("the same message twice"),
    9: Row(
        "Redis restarts without persistence",
        ("tests/celery/test_broker_restart.py",),
    ),
    10: Row(
        "FLUSHALL in the middle of a chord",
        ("tests/celery/test_broker_restart.py::test_redis_is_flushed_in_the_middle_of_chords",),
    ),
    11: Row("Redis out of memory", ("tests/celery/test_start.py::test_a_redis_that_is_full",)),
    12: Row(
        "the broker's Redis evicts keys",
        ("tests/celery/test_start.py::test_a_redis_that_evicts_is_called_by_its_name",),
        "Each process warns at its start, and `embed-star doctor` fails. An evicted message is "
        "a lost one, which is fault 10.",
    ),
    13: Row("Sentinel failover that loses writes"),
    14: Row("half-open Redis", ("tests/celery/test_broker_restart.py::test_redis_is_half_open",)),
    15: Row("SurrealDB killed during a bulk write"),
    16: Row("SurrealDB slow or half-open", ("tests/integration/test_half_open.py::TestHalfOpen",)),
    17: Row("write conflicts"),
    18: Row("SurrealDB's session expires"),
    19: Row("row edited while in flight"),
    20: Row("row deleted while in flight"),
    21: Row("LIVE notification lost, socket cut"),
    22: Row("429 with Retry-After", ("tests/celery/test_throttled.py",)),
    23: Row("burst of 500 and 503", ("tests/celery/test_pause.py",)),
    24: Row("time-out, one byte a second", ("tests/contract/providers/test_connections.py",)),
    25: Row("reset, truncated body, bad gzip, wrong length"),
    26: Row("HTML, `{}`, a giant body"),
    27: Row("NaN, infinity, null, zero, constant vector"),
    28: Row("wrong dimensions, count or order"),
    29: Row("the provider answers for another model"),
    30: Row("401: the key is revoked", ("tests/celery/test_pause.py",)),
    31: Row(
        "poison row",
        (
            "tests/integration/test_crashing_rows.py::TestOneRow",
            "tests/integration/test_crashing_rows.py::TestNobodyIsBlamed",
            "tests/celery/test_pause.py::test_rows_that_break_the_provider_keep_no_others_from_it",
        ),
    ),
    32: Row("1 MB description, request over the token limit"),
    33: Row(
        "NUL, lone surrogate, right-to-left, 4-byte, empty text",
        ("tests/contract/providers/test_conformance.py::test_a_lone_surrogate_is_the_texts_fault",),
        "A lone surrogate cannot be written into SurrealDB, which takes UTF-8 only.",
    ),
    34: Row("beat twice, producer twice"),
    35: Row("leader killed", ("tests/integration/test_leading.py",)),
    36: Row("clocks off by an hour, daylight saving time"),
    37: Row("lock holder paused past its lock"),
    38: Row(
        "rolling deploy: two fleets, two models",
        (
            "tests/celery/test_rolling_deploy.py::test_a_change_of_model_under_load",
            "tests/celery/test_rolling_deploy.py::test_and_back",
        ),
    ),
    39: Row(
        "an old fleet meets the new shape of messages",
        (
            "tests/celery/test_rolling_deploy.py::test_a_message_of_a_newer_version_is_put_back_with_a_delay",
            "tests/celery/test_rolling_deploy.py::test_a_message_that_nobody_understands_ends_set_aside",
        ),
        "Those tests start a worker.",
    ),
    40: Row(
        "eight replicas migrate at once, one killed halfway",
        (
            "tests/integration/test_migrations.py::TestManyAtOnce::test_eight_processes_apply_each_once",
            "tests/integration/test_migrations.py::TestManyAtOnce::test_one_killed_half_way_is_continued",
        ),
        "No row is under way during a migration; those tests start real processes.",
    ),
    41: Row("disk full"),
    42: Row("cache entry corrupt, stale, of another model"),
    43: Row("a header part of a chord lost"),
    44: Row(
        "100,000 tasks",
        why_not="It takes minutes, and measures instead: `python -m bench soak`.",
    ),
    45: Row("everything down at start", ("tests/celery/test_start.py::test_everything_is_down",)),
    46: Row("provider's endpoint unreachable, DNS fails"),
    47: Row("a user's bulk load while workers run"),
    48: Row(
        "the provider refuses everybody (HTTP 400), then recovers",
        ("tests/integration/test_blame.py::TestEverybodyIsRefused",),
    ),
    49: Row(
        "vectors bad for everybody (nulls; a length of 292), then mended",
        (
            "tests/integration/test_blame.py::TestVectorsThatAreBadForEverybody",
            "tests/integration/test_blame.py::TestAServerThatDoesNotNormalise",
        ),
    ),
    50: Row(
        "a row that the client cannot decode",
        (
            "tests/integration/test_values.py::TestKeys",
            "tests/integration/test_values.py::TestTexts",
            "tests/integration/test_producer.py::TestAnErrorThatNobodyExpected",
        ),
    ),
    51: Row("two installations with default names on one Redis"),
}
