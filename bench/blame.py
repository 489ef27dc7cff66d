"""Limits and blame, measured: a strict rate limit, and a backlog with poison in it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from bench.stack import Bench, Shape, running
from embed_star.calling.gateway import PROBE_TEXT
from embed_star.errors import EmbedStarError
from embed_star.models import Lane
from embed_star.store.client.codec import record
from tests.support.checker import Checker, payments
from tests.support.scripted_answers import BAD_VECTORS

LIMIT = 3_000
"""Requests a minute, OpenAI's usual. The provider answers 429 to any more in 60 s."""
STEADY_S = 120.0
RAMP_S = 10.0
WORKERS = 4
BATCH_ROWS = 4

POISON: Mapping[str, tuple[int, str]] = {
    "refused": (10, "rejected"),
    "crash": (6, "crashes_provider"),
    "nan": (6, "not_finite"),
    "infinity": (4, "not_finite"),
    "null": (4, "not_finite"),
    "null_vector": (4, "not_finite"),
    "zero": (6, "constant"),
    "constant": (4, "constant"),
    "empty": (6, "empty_text"),
}
"""Kind → how many such rows, and the reason that each is to be set aside with."""


def limit(figures: dict[str, float]) -> list[tuple[str, ...]]:
    """Two minutes at the limit, the backlog always longer than that."""
    shape = Shape(
        BATCH_ROWS,
        chord_batches=10,
        workers=WORKERS,
        threads=3,
        latency_ms=100,
        true_vectors=True,
        settings={"PROVIDER_REQUESTS_PER_MINUTE": str(LIMIT)},
    )
    with running(shape) as bench:
        bench.provider.script(requests_per_minute=LIMIT)
        with bench.producer_held():
            bench.insert_repos(round(LIMIT / 60 * (STEADY_S + 6 * RAMP_S)) * BATCH_ROWS)
        began = bench.await_claiming()
        time.sleep(RAMP_S + STEADY_S - (time.perf_counter() - began))
        ledger = bench.provider.ledger()
    last = max(float(entry["at"]) for entry in ledger)
    steady = [entry for entry in ledger if last - STEADY_S < entry["at"] <= last]
    refused = sum(entry["status"] == 429 for entry in ledger)
    share = len(steady) / (LIMIT * STEADY_S / 60)
    figures |= {"limit_requests": len(steady), "limit_share": share, "limit_refused": refused}
    return [
        (
            f"a limit of {LIMIT:,} requests a minute, {WORKERS} workers",
            f"{len(steady):,} requests",
            f"{LIMIT * STEADY_S / 60:,.0f} in {STEADY_S:g} s",
            f"{share:.3f}",
            "≥ 0.95",
        ),
        ("answered 429", f"{refused}", f"{len(ledger):,} requests", "", "0"),
    ]


def poison(figures: dict[str, float], rows: int = 5_000) -> list[tuple[str, ...]]:
    """A backlog with one row in a hundred that cannot be embedded, of every kind."""
    bad = sum(count for count, _ in POISON.values())
    shape = Shape(batch_rows=50, chord_batches=4, workers=2, threads=3, true_vectors=True)
    with running(shape) as bench:
        warm = bench.services.store.vectors.count()
        bench.provider.reset()
        bench.provider.script(
            poison="word-refused",
            crash="word-crash",
            bad_vectors={kind: f"word-{kind}." for kind in BAD_VECTORS if kind in POISON},
        )
        with bench.producer_held():
            wanted = _insert_poison(bench, rows - bad)
        began = bench.await_claiming()
        _await_quiet(bench)
        seconds = time.perf_counter() - began
        ledger = bench.provider.ledger()
        failed = bench.services.store.failures.by_reason()
        embedded = bench.services.store.vectors.count() - warm
        Checker(bench.services).check(ledger).assert_kept()
    if (embedded, failed) != (rows - bad, wanted):
        raise EmbedStarError(f"{embedded} embedded, set aside: {failed}, expected: {wanted}")
    probes = sum(entry["texts"] == [PROBE_TEXT] for entry in ledger)
    broken = sum(entry["fault"] is not None for entry in ledger)
    refused = sum(entry["status"] == 400 for entry in ledger)
    most = max(payments(ledger).values())
    figures |= {"poison_rows_s": rows / seconds, "poison_calls": len(ledger)}
    figures |= {"poison_probes": probes, "poison_broken": broken, "poison_refused": refused}
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(failed.items()))
    full = -(-rows // shape.batch_rows)
    return [
        (f"{rows:,} rows, {bad} of them poison", f"{embedded:,} embedded", "", "", "4,950"),
        ("set aside", f"{sum(failed.values())}", reasons, "", "50"),
        (
            "provider calls",
            f"{len(ledger):,}",
            f"{full} full batches; {refused} refused, {broken} broken off, {probes} probes",
            f"{len(ledger) / full:.1f}",
            "",
        ),
        ("most often that a text was paid for", f"{most}", f"{seconds:.1f} s in all", "", "1"),
    ]


def _insert_poison(bench: Bench, good: int) -> dict[str, int]:
    """Good rows with the others among them, evenly; how many each reason is to have."""
    query = bench.services.store.database.query
    kinds = [kind for kind, (count, _) in POISON.items() for _ in range(count)]
    # Their places differ by a number that shares no factor with theirs.
    kinds = [kinds[(7 * place) % len(kinds)] for place in range(len(kinds))]
    for number, kind in enumerate(kinds):
        bench.insert_repos(good // len(kinds) + (number < good % len(kinds)))
        query("CREATE $id CONTENT $fields RETURN NONE", **_bad_row(kind, number))
    wanted: Counter[str] = Counter()
    for count, reason in POISON.values():
        wanted[reason] += count
    return dict(wanted)


def _bad_row(kind: str, number: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"full_name": f"poison/{number}", "description": f"word-{kind}."}
    if kind == "empty":
        fields = {"stargazers_count": number}
    return {"id": record("repo", f"poison-{number}"), "fields": fields}


def _await_quiet(bench: Bench) -> None:
    deadline = time.monotonic() + 180.0
    outbox = bench.services.store.outbox
    while any(outbox.page(lane, "", 1) for lane in Lane):
        if time.monotonic() > deadline:
            raise TimeoutError("the backlog was not done")
        time.sleep(0.05)
