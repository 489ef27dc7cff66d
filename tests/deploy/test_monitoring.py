"""Every query of the dashboard and every rule, asked of a Prometheus that watched a real run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.grafana import dashboard
from tests.support.monitoring import all_rules, metrics_of, queries_of
from tests.support.observed_run import Observed, Story, observed
from tests.support.servers import eventually

PART_S = 4.0
RUN_S = 120.0

COMMITTED: dict[str, Any] = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
QUERIES = sorted(set(queries_of(COMMITTED)))
SILENT = {
    'ALERTS{alertname=~"EmbedStar.+", alertstate="firing"}',  # all was over within minutes
}
"""Queries that are right to have no answer after this run."""
ELSEWHERE = {"celery_task_failed_total"}
"""Of the celery-exporter, which is an image."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """The run, over, and everything still there."""
    with observed(tmp_path_factory.mktemp("run")) as run:
        Story(run.tenant, PART_S).tell()
        yield run


@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_dashboard_has_an_answer(run: Observed, query: str) -> None:
    series = run.prometheus.query_range(query, RUN_S, 1.0)
    values = [value for one in series for _, value in one["values"] if value != "NaN"]
    assert bool(values) == (query not in SILENT)


@pytest.mark.timeout(300)
def test_every_rule_is_evaluated_without_an_error(run: Observed) -> None:
    rules = run.prometheus.rules()
    assert len(rules) == len(all_rules())
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("record", [rule["record"] for rule in all_rules() if "record" in rule])
def test_what_is_recorded_has_a_value(run: Observed, record: str) -> None:
    assert run.prometheus.query_range(record, RUN_S, 1.0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rule", [rule for rule in all_rules() if "alert" in rule], ids=lambda r: r["alert"]
)
def test_what_an_alert_asks_for_is_there(run: Observed, rule: dict[str, Any]) -> None:
    """Each metric in its expression has a value, so that it could fire."""
    for name in metrics_of(rule["expr"]) - ELSEWHERE:
        assert run.prometheus.query_range(name, RUN_S, 1.0), f"no {name}"


@pytest.mark.timeout(300)
def test_what_happened_is_seen(run: Observed) -> None:
    """The figures agree with what the database says."""
    ask = run.prometheus.value
    status = run.tenant.lab.report()
    eventually(lambda: ask("embed_star:pending:rows") == 0, "nothing is pending", 30.0)
    eventually(
        lambda: ask("max(embed_star_repos_embedded)") == status.embedded,
        "the vectors are seen",
        30.0,
    )
    assert ask("embed_star:failed:rows") == len(status.failed) > 0
    written = ask('sum(embed_star_rows_total{outcome=~"embedded|cached"})')
    assert written == status.embedded
    assert ask("max_over_time(embed_star:breaker:state[10m])") > 0
    assert ask("sum(embed_star_rate_limits_total)") > 0
    assert ask('sum(embed_star_rows_total{outcome="cached"})') > 0
    assert ask("sum(embed_star_leader)") == 1
    assert ask('count(up{job="embed-star-worker"} == 1)') == 2


@pytest.mark.timeout(300)
def test_no_alert_fires_for_a_few_seconds_of_trouble(run: Observed) -> None:
    assert run.prometheus.firing() == set()
