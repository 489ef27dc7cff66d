"""The provider is down, slow, throttles, refuses the key, or answers nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from embed_star.calling.gateway import PROBE_TEXT
from embed_star.timings import THROTTLED_PAUSE_S
from tests.faults.fault import BATCH_ROWS, IN_FLIGHT, Step, Steps, fault
from tests.faults.scene import Scene
from tests.support.servers import eventually

FLEET_IN_FLIGHT = 2 * IN_FLIGHT
CALLS = 6
"""In flight in the fleet, at most: two workers with three each."""
FAILURES = 3
OPEN_S = 1.0
BREAKER = {"BREAKER_FAILURES": str(FAILURES), "BREAKER_OPEN_S": str(OPEN_S)}
IMPATIENT = {**BREAKER, "PROVIDER_TOTAL_TIMEOUT_S": "1.5"}
PAUSED = ("provider_paused",)
WAITING = {"LOCK_TTL_S": "30", "VISIBILITY_TIMEOUT_S": "60"}
"""Locks and messages that outlast a pause of 5 s: a batch is not deferred for it."""


@fault(22, "429 with a Retry-After in seconds", env=WAITING)
def throttled_for_seconds(scene: Scene) -> Steps:
    return _throttled(scene, "2", 2.0)


@fault(22, "429 with a Retry-After as a date", env=WAITING)
def throttled_until_a_date(scene: Scene) -> Steps:
    until = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    return _throttled(scene, until, 1.0)


@fault(22, "429 without a Retry-After", env=WAITING)
def throttled_without_word(scene: Scene) -> Steps:
    return _throttled(scene, None, THROTTLED_PAUSE_S)


def _throttled(scene: Scene, retry_after: str | None, pause_s: float) -> Steps:
    """One refusal, and everybody waits for as long as it says."""
    calls = len(scene.provider.ledger())
    scene.provider.script(fail_next=1, status=429, retry_after=retry_after)
    yield Step.BROKEN
    eventually(
        lambda: any(one["status"] == 429 for one in scene.provider.ledger()), "it answers 429"
    )
    yield Step.MENDED
    ledger = scene.provider.ledger()[calls:]
    refused = next(number for number, one in enumerate(ledger) if one["status"] == 429)
    gaps = [after["at"] - before["at"] for before, after in pairwise(ledger[refused:])]
    # Those that were under way when it was refused still came.
    assert max(gaps) >= pause_s - 0.2, f"nobody waited for {pause_s} s: {max(gaps):.2f} s"
    assert scene.logged("batch_deferred") == 0


@fault(22, "429 with an absurd Retry-After", env=WAITING)
def throttled_absurdly(scene: Scene) -> Steps:
    """What is no number and no date is as if it were not there; what is long is capped."""
    return _throttled(scene, "-31536000", THROTTLED_PAUSE_S)


@fault(23, "a burst of 503", says=PAUSED, env=BREAKER)
def burst_of_503(scene: Scene) -> Steps:
    return _down(scene, lambda: scene.provider.script(fail_next=-1, status=503), FAILURES + CALLS)


@fault(23, "half of the calls get 500", says=PAUSED, env=BREAKER)
def half_are_500(scene: Scene) -> Steps:
    for _ in range(8):
        scene.provider.script(fail_next=1, status=500)
        scene.user.insert(2 * BATCH_ROWS)
        eventually(scene.lab.is_quiet, "they are done", 30.0)
    scene.provider.script(fail_next=-1, status=500)
    yield Step.BROKEN
    scene.await_logged("provider_paused")
    scene.provider.script(fail_next=0)
    yield Step.MENDED
    assert scene.lab.report().failed == {}


@fault(24, "an answer comes one byte a second", says=PAUSED, env=IMPATIENT)
def one_byte_a_second(scene: Scene) -> Steps:
    return _spoiled(scene, fault="drip")


@fault(24, "an answer never comes", says=PAUSED, env=IMPATIENT)
def never_an_answer(scene: Scene) -> Steps:
    return _spoiled(scene, fault="hang")


@fault(25, "connections are reset", env=BREAKER)
def connections_reset(scene: Scene) -> Steps:
    return _spoiled(scene, fault="reset")


@fault(25, "the links to the provider are reset", again=FLEET_IN_FLIGHT * 3, hits=3, env=BREAKER)
def links_reset(scene: Scene) -> Steps:
    for link in scene.links("provider"):
        link.reset()
    yield Step.BROKEN
    eventually(lambda: scene.logged("provider_paused") > 0, "it is paused")
    for link in scene.links("provider"):
        link.mend()
    yield Step.MENDED


@fault(25, "answers break off half way", env=BREAKER)
def answers_break_off(scene: Scene) -> Steps:
    return _spoiled(scene, fault="truncated")


@fault(25, "answers are noise that says it is gzip", env=BREAKER)
def bad_gzip(scene: Scene) -> Steps:
    return _spoiled(scene, fault="bad_gzip")


@fault(25, "answers end before their JSON does", env=BREAKER)
def torn_json(scene: Scene) -> Steps:
    return _spoiled(scene, fault="torn_json")


@fault(26, "HTML instead of JSON", env=BREAKER, says=PAUSED)
def html(scene: Scene) -> Steps:
    return _spoiled(scene, fault="html")


@fault(26, "{} instead of vectors", env=BREAKER, says=PAUSED)
def empty_object(scene: Scene) -> Steps:
    return _spoiled(scene, fault="empty_object")


@fault(26, "a body that never ends", env=BREAKER, says=PAUSED)
def giant_body(scene: Scene) -> Steps:
    return _spoiled(scene, fault="giant_chunked")


@fault(26, "80 MiB in 80 KiB of gzip", env=BREAKER, says=PAUSED)
def gzip_bomb(scene: Scene) -> Steps:
    return _spoiled(scene, fault="gzip_bomb")


@fault(28, "vectors of other dimensions", env=BREAKER, says=PAUSED)
def other_dimensions(scene: Scene) -> Steps:
    return _answers(scene, dimensions=24)


@fault(28, "a vector too few", env=BREAKER, says=PAUSED)
def vector_missing(scene: Scene) -> Steps:
    return _answers(scene, count_delta=-1)


@fault(28, "a vector too many", env=BREAKER, says=PAUSED)
def vector_too_many(scene: Scene) -> Steps:
    return _answers(scene, count_delta=1)


@fault(28, "each vector says that it is the first", env=BREAKER)
def same_index(scene: Scene) -> Steps:
    """Texts are told apart only in calls of one text, and those are made."""
    calls = len(scene.provider.ledger())
    scene.provider.script(indexes="same")
    yield Step.BROKEN
    eventually(lambda: len(scene.provider.ledger()) > calls, "it is asked")
    scene.provider.script(indexes="")
    yield Step.MENDED
    assert scene.lab.report().failed == {}


@fault(28, "vectors in another order, told by their index")
def shuffled(scene: Scene) -> Steps:
    scene.provider.script(shuffle=True)
    yield Step.BROKEN
    yield Step.MENDED


@fault(
    29,
    "the provider answers for another model, with other vectors",
    env=BREAKER,
    says=PAUSED,
)
def another_model(scene: Scene) -> Steps:
    services = scene.lab.services
    eventually(
        lambda: services.store.spaces.identity(services.space) is not None, "the model is recorded"
    )
    yield from _answers(scene, model="another-model", salt="another")


@fault(30, "the key is revoked", says=PAUSED, env=BREAKER)
def key_revoked(scene: Scene) -> Steps:
    return _down(scene, lambda: scene.provider.script(fail_next=-1, status=401), CALLS)


@fault(
    46,
    "nobody listens at the provider's address",
    says=PAUSED,
    env=BREAKER,
    again=FLEET_IN_FLIGHT,
    hits=1,
)
def unreachable(scene: Scene) -> Steps:
    for link in scene.links("provider"):
        link.cut()
    yield Step.BROKEN
    scene.await_logged("provider_paused")
    for link in scene.links("provider"):
        link.mend()
    yield Step.MENDED
    assert scene.lab.report().failed == {}


@fault(46, "the provider's name does not resolve", says=PAUSED, env=BREAKER, workers=0)
def no_such_name(scene: Scene) -> Steps:
    wrong = scene.worker(OPENAI_BASE_URL="http://provider.invalid/v1")
    yield Step.BROKEN
    scene.await_logged("provider_paused")
    assert scene.lab.report().failed == {}
    scene.kill(wrong)
    scene.worker()
    yield Step.MENDED


AS_BASE64 = {**BREAKER, "OPENAI_ENCODING_FORMAT": "base64"}
"""Else each process asks once more, as lists: what is wrong might be its dialect."""


@fault(48, "the provider refuses everybody, its budget being used up", says=PAUSED, env=AS_BASE64)
def refuses_everybody(scene: Scene) -> Steps:
    error = {"message": "Budget has been exceeded!", "type": "budget_exceeded", "code": "400"}
    return _down(
        scene,
        lambda: scene.provider.script(fail_next=-1, status=400, error={"error": error}),
        CALLS,
    )


@fault(49, "nulls instead of vectors for everybody", says=PAUSED, env=AS_BASE64)
def nulls_for_everybody(scene: Scene) -> Steps:
    return _down(
        scene,
        lambda: scene.provider.script(null_vector=""),
        CALLS,
        mend={"bad_vectors": {}},
        is_bad=lambda one: one["fault"] == "bad_vectors",
    )


@fault(49, "vectors of length 292 for everybody, then of length 1", env=BREAKER)
def not_normalised(scene: Scene) -> Steps:
    """Which is no fault: they are made of length 1, and paid for once."""
    scene.provider.script(norm=292.0)
    before = scene.lab.services.store.vectors.count()
    yield Step.BROKEN
    eventually(
        lambda: scene.lab.services.store.vectors.count() >= before + 2 * BATCH_ROWS,
        "rows are embedded all the same",
        30.0,
    )
    scene.provider.script(norm=0.0)
    yield Step.MENDED
    assert scene.lab.report().failed == {}
    assert scene.logged("provider_paused") == 0


def _down(
    scene: Scene,
    break_it: Any,
    most: int,
    mend: Mapping[str, Any] | None = None,
    is_bad: Callable[[dict[str, Any]], bool] = lambda one: one["status"] != 200,
) -> Steps:
    """A provider that serves nobody: few calls find out, then one probe in each period."""
    calls = len(scene.provider.ledger())
    break_it()

    def asked() -> list[dict[str, Any]]:
        return scene.provider.ledger()[calls:]

    def probes() -> list[dict[str, Any]]:
        return [one for one in asked() if one["texts"] == [PROBE_TEXT]]

    began = time.monotonic()
    yield Step.BROKEN
    eventually(lambda: len(probes()) >= 3, "it is probed", 30.0)
    passed_s = time.monotonic() - began
    refused = [one for one in asked() if is_bad(one)]
    # Each call that fails may be followed by a probe: is it the rows, or the provider?
    limit = 2 * most + passed_s / OPEN_S + 1
    assert len(refused) <= limit, f"{len(refused)} calls in {passed_s:.1f} s"
    scene.provider.script(**(mend or {"fail_next": 0}))
    yield Step.MENDED
    assert scene.lab.report().failed == {}
    assert scene.logged("batch_failed") == 0


def _spoiled(scene: Scene, fault: str) -> Steps:
    """Answers that nobody can use: the provider leaves no row at fault."""
    scene.provider.script(fault=fault)
    yield Step.BROKEN
    eventually(
        lambda: sum(one["fault"] == fault for one in scene.provider.ledger()) >= FAILURES,
        "it is asked",
        40.0,
    )
    scene.await_logged("provider_paused")
    scene.provider.script(fault=None)
    yield Step.MENDED
    assert scene.lab.report().failed == {}


def _answers(scene: Scene, **script: Any) -> Steps:
    """Answers that must not be taken for vectors."""
    calls = len(scene.provider.ledger())
    usual = {"dimensions": 16, "count_delta": 0, "indexes": "", "model": None, "salt": ""}
    scene.provider.script(**script)
    yield Step.BROKEN
    eventually(lambda: len(scene.provider.ledger()) > calls, "it is asked")
    scene.await_logged("provider_paused")
    scene.provider.script(**{name: usual[name] for name in script})
    yield Step.MENDED
    assert scene.lab.report().failed == {}
