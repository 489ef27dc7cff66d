"""The Grafana dashboard: what its panels ask and how they look, and the JSON made of that.

    python deploy/grafana/dashboard.py

writes dashboards/embed_star.json, the file that Grafana reads. Change this one, and commit both;
a test compares them. Panels are for Grafana 11 and later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "embed_star.json"
COLUMNS = 24
HEIGHT = 7
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Steps = Sequence[tuple[float, str]]
"""From which value on a colour holds, beginning after the first colour, green."""


@dataclass(frozen=True)
class Panel:
    """One panel; `queries` are expressions by their legend."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = HEIGHT
    stacked: bool = False
    steps: Steps = ()
    states: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Value → its word and colour."""
    colours: Mapping[str, str] = field(default_factory=dict)
    """Legend → colour, where the colour says something."""
    maximum: float | None = None


def stat(
    title: str, description: str, unit: str, query: str, steps: Steps = (), height: int = 4
) -> Panel:
    """One number, now."""
    return Panel(title, description, unit, {title: query}, "stat", 4, height, steps=steps)


def quantiles(metric: str, matchers: str = "") -> dict[str, str]:
    """Median, 95th and 99th percentile of a histogram."""
    rate = f"sum by (le) (rate({metric}_bucket{matchers}[$__rate_interval]))"
    return {
        name: f"histogram_quantile({share}, {rate})"
        for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def rate(metric: str, by: str = "", matchers: str = "") -> str:
    """What all processes count together, a second."""
    return f"sum{f' by ({by}) ' if by else ' '}(rate({metric}{matchers}[$__rate_interval]))"


OBJECTIVE_S = 60

FRESH = [
    stat(
        "Oldest fresh row",
        "How long the oldest row that a user wrote has been waiting. The objective is 60 s.",
        "s",
        'max(embed_star_oldest_pending_seconds{lane="fresh"})',
        [(OBJECTIVE_S / 2, "yellow"), (OBJECTIVE_S, "red")],
    ),
    stat(
        "Late, last 3 days",
        "Share of the time in which a fresh row waited for more than 60 s. The objective is 1 %.",
        "percentunit",
        "embed_star:fresh_late:ratio3d",
        [(0.005, "yellow"), (0.01, "red")],
    ),
    stat(
        "Pending",
        "Rows that wait, in both lanes, with those under way.",
        "short",
        "embed_star:pending:rows",
    ),
    stat(
        "Time to drain",
        "What the pending rows take at the pace of the last 5 minutes. Infinite: nothing moves.",
        "s",
        "embed_star:drain:seconds and embed_star:pending:rows > 0 or vector(0)",
        [(900, "yellow"), (4 * 3600, "red")],
    ),
    stat("Embedded", "Vectors of the active space.", "short", "max(embed_star_repos_embedded)"),
    stat(
        "Set aside",
        "Rows that cannot be embedded. They come back when their text changes.",
        "short",
        "embed_star:failed:rows",
        [(1, "yellow")],
    ),
    Panel(
        "Oldest pending row",
        "Age of the oldest row of each lane. The line is the objective for fresh rows; there is "
        "none for the backfill.",
        "s",
        {"{{lane}}": "max by (lane) (embed_star_oldest_pending_seconds)"},
        steps=[(OBJECTIVE_S, "red")],
    ),
    Panel(
        "From change to vector, fresh rows",
        "How long rows took that were written just then.",
        "s",
        quantiles("embed_star_freshness_seconds", '{lane="fresh"}'),
    ),
    Panel(
        "Pending rows",
        "By lane. Fresh rows overtake the backfill.",
        "short",
        {"{{lane}}": "max by (lane) (embed_star_repos_pending)"},
        stacked=True,
    ),
]

THROUGHPUT = [
    Panel(
        "Rows by outcome",
        "Rows a second of finished runs. Deferred and lost rows stay pending and come again.",
        "cps",
        {"{{outcome}}": rate("embed_star_rows_total", "outcome")},
        stacked=True,
        colours={"failed": "red", "deferred": "yellow", "embedded": "green", "cached": "blue"},
    ),
    Panel(
        "Under way",
        "Rows claimed by runs, and those of them that no worker has begun.",
        "short",
        {
            "in flight": "max(embed_star_repos_in_flight)",
            "queued": "max(embed_star_repos_queued)",
        },
    ),
    Panel(
        "Found in the cache",
        "Share of the vectors that needed no call to the provider.",
        "percentunit",
        {
            "cache": f"{rate('embed_star_cache_hits_total')} / ("
            f"{rate('embed_star_cache_hits_total')} + {rate('embed_star_cache_misses_total')})"
        },
        maximum=1,
    ),
    Panel(
        "Tries again",
        "Tasks put off, after an error or for the rate limit.",
        "cps",
        {"{{task}}": rate("embed_star_retry_attempts_total", "task")},
    ),
    Panel(
        "Set aside, by reason",
        "Rows that cannot be embedded; `embed-star failures` lists them.",
        "short",
        {"{{reason}}": "max by (reason) (embed_star_repos_failed)"},
        stacked=True,
    ),
    Panel(
        "Texts that got no vector",
        "Each try counts. `rejected` and `invalid` are the rows', the others the provider's.",
        "cps",
        {"{{type}}": rate("embed_star_embeddings_errors_total", "type") + " > 0"},
    ),
]

PROVIDER = [
    Panel(
        "Circuit breaker",
        "Whether the provider is called. Paused, nobody calls it, but to try it now and then.",
        "short",
        {"{{provider}} {{model}}": "embed_star:breaker:state"},
        "state-timeline",
        states={0: ("called", "green"), 1: ("paused", "red"), 2: ("tried", "yellow")},
    ),
    Panel(
        "Calls by outcome",
        "Calls a second.",
        "reqps",
        {"{{outcome}}": rate("embed_star_provider_requests_total", "outcome")},
        stacked=True,
        colours={"ok": "green", "unavailable": "red", "throttled": "yellow", "auth": "purple"},
    ),
    Panel(
        "Time of a call",
        "Failed calls included, the wait for the rate limit excluded.",
        "s",
        quantiles("embed_star_embedding_duration_seconds"),
    ),
    Panel(
        "Calls at once",
        "How many may be under way, all workers together. With PARALLEL_WORKERS=auto it follows "
        "the provider: up while calls take no longer for it, down when they do.",
        "short",
        {"{{provider}}": "sum by (provider) (embed_star_provider_calls_allowed)"},
        width=6,
    ),
    Panel(
        "Rate limit used",
        "Of the tighter of the provider's limits, over the last minute. At 1, the provider is the "
        "bottleneck, and more workers are no help.",
        "percentunit",
        {"{{provider}}": "max by (provider) (embed_star_budget_used_ratio)"},
        steps=[(0.95, "yellow")],
        maximum=1,
        width=6,
    ),
    Panel(
        "Answers of 429",
        "None are expected: the fleet keeps to its budget.",
        "reqps",
        {"{{provider}}": rate("embed_star_rate_limits_total", "provider")},
        width=6,
    ),
    Panel(
        "Pause asked for",
        "What is left of the pause that the provider asked for.",
        "s",
        {"{{provider}}": "max by (provider) (embed_star_budget_paused_seconds)"},
        width=6,
    ),
]

COST = [
    stat(
        "Spent, 24 hours",
        "At PROVIDER_PRICE_PER_MILLION_TOKENS.",
        "currencyUSD",
        "sum(increase(embed_star_provider_cost_dollars_total[24h]))",
        height=6,
    ),
    stat(
        "Tokens, 24 hours",
        "As the provider counted them.",
        "short",
        "sum(increase(embed_star_provider_tokens_total[24h]))",
        height=6,
    ),
    stat(
        "Rows at no cost, 24 hours",
        "Rows brought up to date without a call.",
        "short",
        "sum(increase(embed_star_reembeddings_avoided_total[24h]))",
        height=6,
    ),
    Panel(
        "Tokens",
        "Tokens a second, by model.",
        "cps",
        {"{{provider}} {{model}}": rate("embed_star_provider_tokens_total", "provider, model")},
        width=6,
        height=6,
    ),
    Panel(
        "Spending, an hour",
        "Dollars an hour at the present pace.",
        "currencyUSD",
        {
            "{{provider}} {{model}}": "3600 * "
            + rate("embed_star_provider_cost_dollars_total", "provider, model")
        },
        width=6,
        height=6,
    ),
]

QUEUES = [
    Panel(
        "Messages",
        "Waiting in Redis, by queue, and those with workers.",
        "short",
        {
            "{{queue}}": "max by (queue) (embed_star_queue_messages)",
            "with workers": "max(embed_star_queue_unacked_messages)",
        },
    ),
    Panel(
        "Oldest message and run",
        "A run is a chord: provider calls, and the bulk write after them.",
        "s",
        {
            "{{queue}}": "max by (queue) (embed_star_queue_oldest_seconds)",
            "run": "max(embed_star_chord_oldest_seconds)",
        },
        steps=[(300, "red")],
    ),
    Panel(
        "Locks held by somebody else",
        "Rows a second that were not claimed. Some are usual while two producers change places.",
        "cps",
        {"{{layer}}": rate("embed_star_lock_contention_total", "layer")},
    ),
    Panel(
        "Dispatched",
        "Rows a second claimed and enqueued, by lane.",
        "cps",
        {"{{lane}}": rate("embed_star_rows_dispatched_total", "lane")},
        stacked=True,
    ),
    Panel(
        "Safety nets",
        "Time since the last sweep that worked, and since the last whole reconcile.",
        "s",
        {
            "sweep": "time() - max(embed_star_last_sweep_timestamp_seconds)",
            "reconcile": "time() - max(embed_star_last_reconcile_timestamp_seconds)",
        },
    ),
    Panel(
        "Rows that more workers would help with",
        "What autoscaling goes by: 0 while the provider is the limit.",
        "short",
        {"rows": "max(embed_star_scaling_backlog_rows)"},
    ),
]

STORES = [
    Panel(
        "Database and Redis",
        "Whether they could be read.",
        "short",
        {"{{source}}": "max by (source) (embed_star_source_up)"},
        "state-timeline",
        states={0: ("away", "red"), 1: ("there", "green")},
    ),
    Panel(
        "Database connections",
        "Of all processes. Threads that wait have none: see DB_POOL_SIZE.",
        "short",
        {
            "active": "sum(embed_star_pool_connections_active)",
            "idle": "sum(embed_star_pool_connections_idle)",
            "threads waiting": "sum(embed_star_pool_connections_waiting)",
        },
        colours={"threads waiting": "red"},
    ),
    Panel(
        "Database connections lost and opened",
        "Connections a second.",
        "cps",
        {
            "errors": rate("embed_star_pool_connection_errors_total"),
            "failed health checks": rate("embed_star_pool_health_check_failures_total"),
            "opened": rate("embed_star_pool_connections_created_total"),
            "recycled": rate("embed_star_pool_connections_recycled_total"),
        },
        colours={"errors": "red"},
    ),
]

PROCESSES = [
    Panel(
        "Processes that answer",
        "By kind; and producers that lead, of which there is to be one.",
        "short",
        {
            "{{job}}": 'sum by (job) (up{job=~"embed-star-.+"})',
            "leaders": "sum(embed_star_leader)",
        },
        width=6,
    ),
    Panel(
        "Memory",
        "Resident. A worker takes 100 to 140 MB, with the local model up to 420.",
        "bytes",
        {
            "{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"embed-star-.+"}',
        },
        width=6,
    ),
    Panel(
        "CPU, cores",
        "Cores. Workers mostly wait.",
        "short",
        {
            "{{job}} {{instance}}": "rate(process_cpu_seconds_total"
            '{job=~"embed-star-.+"}[$__rate_interval])'
        },
        width=6,
    ),
    Panel(
        "Processes by version",
        "Processes by version: two of them during a rolling deploy.",
        "short",
        {"{{version}}": "count by (version) (embed_star_build_info)"},
        width=6,
        stacked=True,
    ),
]

ROWS: Mapping[str, Sequence[Panel]] = {
    "Is it fresh?": FRESH,
    "Throughput": THROUGHPUT,
    "Provider": PROVIDER,
    "Cost": COST,
    "Queues and locks": QUEUES,
    "SurrealDB and Redis": STORES,
    "Processes": PROCESSES,
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "embed-star",
        "title": "embed_star",
        "description": "Whether every repository has a current embedding, and if not, why.",
        "tags": ["embed_star", "celery"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts_shown()]},
        "templating": {"list": [_datasource_choice()]},
        "panels": list(_placed()),
    }


def _datasource_choice() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "options": [],
    }


def _alerts_shown() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"EmbedStar.+", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "30s",
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Rows and panels from the top left to the bottom right."""
    y = number = 0
    for title, panels in ROWS.items():
        number += 1
        row = {"id": number, "type": "row", "title": title, "collapsed": False, "panels": []}
        yield {**row, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}}
        y += 1
        x = 0
        for place, panel in enumerate(panels):
            number += 1
            at = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            yield {"id": number, "gridPos": at, **_panel(panel)}
            x += panel.width
            if x >= COLUMNS or place == len(panels) - 1:
                x, y = 0, y + panel.height


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            _target(chr(ord("A") + number), legend, query, instant=panel.kind == "stat")
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": OPTIONS[panel.kind],
    }


def _target(name: str, legend: str, query: str, *, instant: bool) -> dict[str, Any]:
    return {
        "refId": name,
        "datasource": DATASOURCE,
        "expr": query,
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": [{"value": None, "color": "green"}, *steps]},
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
    }
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    if panel.states:
        words = {
            str(value): {"index": number, "text": word, "color": colour}
            for number, (value, (word, colour)) in enumerate(panel.states.items())
        }
        defaults["mappings"] = [{"type": "value", "options": words}]
        defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    return defaults


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours.items()
    ]


_LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
OPTIONS: Mapping[str, dict[str, Any]] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value",
        "justifyMode": "auto",
        "orientation": "auto",
    },
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "state-timeline": {
        "legend": _LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.8,
    },
}


def text() -> str:
    """The file's contents."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
