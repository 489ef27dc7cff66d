"""Traces of real processes, as a collector gets them: one trace from a change to its vector."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.fleet import Fleet, log_lines
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.support.servers import eventually

POOLS = {"threads": (), "processes": ("-P", "processes", "-c", "2")}
WORD = "canary5d2a"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def by_name(spans: list[ReceivedSpan]) -> dict[str, list[ReceivedSpan]]:
    return {name: [one for one in spans if one.name == name] for name in {s.name for s in spans}}


@pytest.mark.parametrize("pool", POOLS)
def test_one_trace_from_the_change_of_a_row_to_its_vector(
    fleet: Fleet, receiver: OtlpReceiver, pool: str
) -> None:
    fleet.provider.reset()
    fleet.provider.script(fail_next=1, status=429, retry_after="1")
    tenant = fleet.tenant(
        BATCH_SIZE="5", TRACING_ENDPOINT=receiver.endpoint, OPENAI_API_KEY=f"sk-{WORD}"
    )
    before = time.time()
    tenant.lab.insert(10, description=f"a row's {WORD}")
    worker = tenant.worker(*POOLS[pool])
    producer = tenant.producer()
    tenant.lab.await_quiet()

    def is_whole(spans: list[ReceivedSpan]) -> bool:
        names = Counter(span.name for span in spans)
        # Each process sends its spans once a second: those of one batch may come last.
        wanted = {"run": 1, "claim": 1, "dispatch": 1, "store_embeddings": 1, "write": 1}
        wanted["embed_batch"] = 3
        return all(names[name] == number for name, number in wanted.items())

    def whole() -> list[list[ReceivedSpan]]:
        return [spans for spans in receiver.traces().values() if is_whole(spans)]

    eventually(lambda: len(whole()) >= 1, "a whole trace has come")
    spans = next(
        spans for spans in whole() if by_name(spans)["run"][0].attributes["lane"] == "fresh"
    )
    named = by_name(spans)
    (run,) = named["run"]
    assert run.parent_id == ""
    assert run.trace_id == run.attributes["run_id"]
    assert run.attributes["rows"] == 10
    assert before - 0.1 <= run.began_s <= before + 2.0  # when the first row was written
    for name in ("claim", "dispatch", "embed_batch", "store_embeddings"):
        assert {one.parent_id for one in named[name]} == {run.span_id}, name
    # Two batches, one of which is tried again.
    assert len(named["embed_batch"]) == 3
    assert Counter(one.attributes["state"] for one in named["embed_batch"]) == {
        "SUCCESS": 2,
        "RETRY": 1,
    }
    batches = {one.span_id for one in named["embed_batch"]}
    assert {one.parent_id for one in named["provider_call"]} == batches
    # The first batches of a space also ask for our own text, alone: which model answers?
    calls = [one for one in named["provider_call"] if one.attributes["texts"] == 5]
    assert Counter(one.attributes["outcome"] for one in calls) == {"ok": 2, "throttled": 1}
    assert [one.failed for one in named["provider_call"]].count(True) == 1
    assert all("cache" in one.events for one in named["embed_batch"])
    (write,), (body,) = named["write"], named["store_embeddings"]
    assert write.parent_id == body.span_id
    assert write.attributes["rows"] == 10
    assert run.began_s <= named["claim"][0].began_s <= named["dispatch"][0].began_s
    # Not the header's spans: Celery releases the body while the last of them is still open.
    assert max(one.ended_s for one in named["provider_call"]) <= body.began_s
    services = {one.name: one.service for one in spans}
    assert services["run"] == services["claim"] == "embed-star-producer"
    assert services["provider_call"] == services["write"] == "embed-star-worker"
    assert WORD.encode() not in receiver.raw  # neither a row's text nor the key
    stored = [
        line
        for line in log_lines(worker)
        if line.get("event") == "run_stored" and line["run_id"] == run.trace_id
    ]
    assert [(line["trace_id"], line["span_id"]) for line in stored] == [
        (run.trace_id, body.span_id)
    ]
    producer.stop(10)
    tenant.stop()


def test_a_share_of_runs_is_traced_and_those_wholly(fleet: Fleet, receiver: OtlpReceiver) -> None:
    fleet.provider.reset()
    tenant = fleet.tenant(
        BATCH_SIZE="1",
        CHORD_BATCHES="1",
        TRACING_ENDPOINT=receiver.endpoint,
        TRACING_SAMPLE_RATIO="0.5",
    )
    worker = tenant.worker()
    producer = tenant.producer()
    tenant.lab.insert(60)
    tenant.lab.await_quiet()
    producer.stop(10)
    worker.stop(10)  # both send what they have
    traces = [spans for spans in receiver.traces().values() if by_name(spans).get("run")]
    runs = {line["run_id"] for line in log_lines(worker) if line.get("event") == "run_stored"}
    assert len(runs) >= 60
    assert 0.2 * len(runs) < len(traces) < 0.8 * len(runs)
    for spans in traces:
        named = by_name(spans)
        assert {"run", "claim", "dispatch", "embed_batch", "write"} <= set(named)
        assert named["write"][0].parent_id == named["embed_batch"][0].span_id
    assert set(receiver.traces()) == {spans[0].trace_id for spans in traces}


def test_a_collector_that_is_away_holds_up_nobody(fleet: Fleet) -> None:
    fleet.provider.reset()
    tenant = fleet.tenant(TRACING_ENDPOINT="http://127.0.0.1:9/v1/traces")
    worker = tenant.worker()
    producer = tenant.producer()
    tenant.lab.insert(20)
    tenant.lab.await_quiet()
    for child in (producer, worker):
        began = time.monotonic()
        child.stop(20)
        assert time.monotonic() - began < 15
        assert child.returncode == 0, child.describe_end()
        assert "Traceback" not in child.output()
