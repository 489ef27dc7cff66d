"""Spans of runs, made from the core's events and sent over OTLP. Needs the extra `tracing`.

One trace is one run. Its ids are derived from the run's id, so every process can compute the
context of a run, and the logs' `run_id` is the trace's id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from embed_star import __version__
from embed_star.calling.call_outcomes import OK
from embed_star.events import CacheRead, Event, ProviderCalled, RowsWritten, RunDispatched

TRACEPARENT = "traceparent"
"""The name of the message header, from W3C Trace Context."""

EXPORT_S = 3
"""Deadline for sending: a collector that is down must not delay the end of a process."""

Attributes = Mapping[str, str | int | float]


class Tracing:
    """Traces the runs that this process works on. An event listener; thread-safe."""

    def __init__(self, endpoint: str, sample_ratio: float, service: str) -> None:
        """`service` is the name of the process in the traces."""
        self._ids = _Ids()
        self._sampler = TraceIdRatioBased(sample_ratio)
        self._provider = TracerProvider(
            sampler=ParentBased(self._sampler),
            resource=Resource.create({"service.name": service, "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint, timeout=EXPORT_S)
        # It starts a new thread in a forked child by itself.
        self._processor = BatchSpanProcessor(exporter, schedule_delay_millis=1000)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("embed_star", __version__)

    def traceparent(self, run_id: str) -> str | None:
        """The header for a run's messages; None for a run that is not sampled."""
        trace_id, span_id = _ids_of(run_id)
        if self._sampler.should_sample(None, trace_id, "run").decision is Decision.DROP:
            return None
        return f"00-{trace_id:032x}-{span_id:016x}-01"

    @contextmanager
    def task(self, name: str, traceparent: str, attributes: Attributes) -> Iterator[Span]:
        """The span of a task; it is the current span while the block runs."""
        parent = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})
        span = self._tracer.start_span(name, parent, SpanKind.CONSUMER, attributes)
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield span
        finally:
            context.detach(token)
            span.end()

    def log_ids(self, span: Span) -> dict[str, str]:
        """The span's ids for log lines; empty for a span that is not recorded."""
        if not span.is_recording():
            return {}
        ids = span.get_span_context()
        return {"trace_id": f"{ids.trace_id:032x}", "span_id": f"{ids.span_id:016x}"}

    def __call__(self, event: Event) -> None:
        match event:
            case RunDispatched():
                self._dispatched(event)
            case ProviderCalled():
                said: Attributes = {
                    "texts": event.texts,
                    "tokens": event.tokens or 0,
                    "outcome": event.outcome,
                }
                self._within_task("provider_call", event.seconds, said)
            case RowsWritten():
                self._within_task("write", event.seconds, {"rows": len(event.outcomes)})
            case CacheRead():
                counts = {"hits": event.hits, "misses": event.misses}
                trace.get_current_span().add_event("cache", counts)
            case _:
                pass

    def close(self) -> None:
        """Send the remaining spans within `EXPORT_S`. Twice changes nothing."""
        self._processor.force_flush(EXPORT_S * 1000)
        self._provider.shutdown()

    def _dispatched(self, event: RunDispatched) -> None:
        ended = time.time_ns()
        enqueuing = ended - _ns(event.dispatch_s)
        claiming = enqueuing - _ns(event.claim_s)
        oldest = min(event.oldest_ms * 1_000_000, claiming)
        with self._ids.planned(*_ids_of(event.run_id)):
            run = self._tracer.start_span(
                "run",
                context.Context(),
                SpanKind.PRODUCER,
                {
                    "run_id": event.run_id,
                    "lane": event.lane.name.lower(),
                    "rows": event.rows,
                    "batches": event.batches,
                },
                start_time=oldest,
            )
        inside = trace.set_span_in_context(run, context.Context())
        for name, began, end in (
            ("claim", claiming, enqueuing),
            ("dispatch", enqueuing, ended),
        ):
            self._tracer.start_span(name, inside, start_time=began).end(end)
        run.end(ended)

    def _within_task(self, name: str, seconds: float, attributes: Attributes) -> None:
        """Make a span that has just ended; none outside of a traced task."""
        if not trace.get_current_span().is_recording():
            return
        began = time.time_ns() - _ns(seconds)
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, start_time=began
        )
        if attributes.get("outcome", OK) != OK:
            span.set_status(Status(StatusCode.ERROR, str(attributes["outcome"])))
        span.end()


class _Ids(RandomIdGenerator):
    """Random ids, except inside of `planned`."""

    def __init__(self) -> None:
        self._planned = threading.local()

    @contextmanager
    def planned(self, trace_id: int, span_id: int) -> Iterator[None]:
        self._planned.ids = (trace_id, span_id)
        try:
            yield
        finally:
            self._planned.ids = None

    def generate_trace_id(self) -> int:
        ids = getattr(self._planned, "ids", None)
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids = getattr(self._planned, "ids", None)
        return ids[1] if ids else super().generate_span_id()


def _ids_of(run_id: str) -> tuple[int, int]:
    """The ids of the trace and of the span `run`: a run's id is 128 random bits, too."""
    return int(run_id, 16), int(run_id[:16], 16)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
