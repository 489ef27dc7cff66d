"""How long everything takes: the rules between times, and what follows from the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from embed_star.timings import (
    BEAT_S,
    DEAD_AFTER_S,
    LOCK_MARGIN_S,
    LOOK_S,
    LOST_RUN_S,
    RULES,
    TURN_S,
    Timings,
    faults,
)

DEFAULTS = Timings()
PROMPT = Timings(call_s=2, lock_ttl_s=12, visibility_timeout_s=10, leader_lease_s=2)
PATIENT = Timings(call_s=120, lock_ttl_s=150, visibility_timeout_s=600, is_limited=True)

TABLE: list[tuple[str, float, float, float]] = [
    # what, by default, prompt, patient
    ("connect_s", 5, 2 / 6, 5),
    ("silence_s", 20, 4 / 3, 80),
    ("rate_limit_wait_s", 5, 1, 10),
    ("longest_call_s", 35, 7, 135),
    ("defer_max_s", 35, 2, 140),
    ("batch_max_s", 264, 6, 469),
    ("retry_backoff_max_s", 8, 1, 8),
    ("grace_s", 40, 10, 130),
    ("rewind_s", 11.25, 3, 37.5),
    ("db_connect_timeout_s", 5, 5, 5),
    ("db_pool_wait_s", 10, 10, 10),
    ("db_longest_s", 45, 45, 45),
    ("cache_local_ttl_s", 3600, 3600, 3600),
]


@pytest.mark.parametrize(("name", "default", "prompt", "patient"), TABLE, ids=lambda value: value)
def test_what_follows(name: str, default: float, prompt: float, patient: float) -> None:
    found = [getattr(timings, name) for timings in (DEFAULTS, PROMPT, PATIENT)]
    assert found == pytest.approx([default, prompt, patient])


def test_the_table_has_all_that_follows() -> None:
    derived = {name for name, one in vars(Timings).items() if isinstance(one, property)}
    assert {row[0] for row in TABLE} == derived


@pytest.mark.parametrize(
    ("change", "faulty"),
    [
        ({}, None),
        ({"call_s": 35}, None),
        ({"call_s": 35.1}, "LOCK_TTL_S"),
        ({"lock_ttl_s": 39.9}, "LOCK_TTL_S"),
        ({"visibility_timeout_s": 62.1}, None),
        ({"visibility_timeout_s": 62}, "VISIBILITY_TIMEOUT_S"),
        ({"shutdown_grace_s": 299.9}, None),
        ({"shutdown_grace_s": 0}, None),
        ({"shutdown_grace_s": 300}, "SHUTDOWN_GRACE_S"),
    ],
    ids=str,
)
def test_a_broken_rule_is_named(change: dict[str, Any], faulty: str | None) -> None:
    assert list(faults(replace(DEFAULTS, **change))) == ([faulty] if faulty else [])


def test_all_broken_rules_are_named() -> None:
    wrong = Timings(call_s=100, lock_ttl_s=50, visibility_timeout_s=100, shutdown_grace_s=100)
    assert list(faults(wrong)) == [rule.setting for rule in RULES]
    assert faults(wrong)["LOCK_TTL_S"] == (
        "must be at least PROVIDER_TOTAL_TIMEOUT_S + 10 = 110, "
        "or a lock could end under a running call"
    )


def test_nobody_is_given_up_too_early() -> None:
    """Two beats may be late or lost, and a worker that is surely at work is not given up."""
    assert DEAD_AFTER_S >= 3 * BEAT_S + LOOK_S
    assert TURN_S + BEAT_S + LOOK_S < DEAD_AFTER_S
    assert LOST_RUN_S >= 2 * BEAT_S + LOOK_S


seconds = st.floats(0.1, 24 * 3600)


@given(seconds, seconds, seconds, st.booleans())
def test_whatever_the_settings_the_chain_holds(
    call_s: float, spare_s: float, visible_s: float, limited: bool
) -> None:
    timings = Timings(call_s, call_s + LOCK_MARGIN_S + spare_s, visible_s, is_limited=limited)
    assume(not faults(timings))
    assert timings.connect_s < timings.silence_s < timings.call_s
    assert timings.call_s < timings.longest_call_s
    assert 1 <= timings.rate_limit_wait_s <= 10
    assert timings.grace_s <= timings.visibility_timeout_s
    # A call that begins as late as it may ends while its rows are locked (a wait of 1 s aside,
    # which is of the margin), and before its message is handed out again.
    assert timings.call_s + timings.rate_limit_wait_s <= timings.lock_ttl_s - LOCK_MARGIN_S + 1
    assert 1 <= timings.retry_backoff_max_s <= 8
    assert 2 * (timings.call_s + timings.retry_backoff_max_s) <= timings.visibility_timeout_s
    assert timings.rewind_s < timings.lock_ttl_s
    assert timings.cache_local_ttl_s <= timings.cache_ttl_s
