"""The list of runbooks, against the alerts."""

from __future__ import annotations

import re

from tests.support.monitoring import CHECKOUT, alerts
from tests.support.runbook import FOLDER


def test_every_alert_has_a_page_that_names_it_and_is_listed() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, rule in alerts().items():
        page = CHECKOUT / rule["annotations"]["runbook"]
        assert f"`{name}`" in page.read_text(encoding="utf-8")
        row = f"| `{name}` | {rule['labels']['severity']} | ["
        assert re.search(re.escape(row) + rf"[^]]+\]\({page.name}\)", index), name
