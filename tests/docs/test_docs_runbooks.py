"""Every alert has a page that says what to do, and the page is about the alert as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, blocks

FILES = [
    yaml.safe_load((ROOT / "infra" / "prometheus" / name).read_text(encoding="utf-8"))
    for name in ("rules.yml", "opt-in.yml")
]
ALERTS = {rule["alert"]: rule for rules in FILES for group in rules["groups"] for rule in group["rules"]}
RUNBOOKS = {page.stem: page for page in (DOCS / "runbooks").glob("*.md") if page.stem != "index"}
PARTS = ["## What it means", "## Check", "## Do"]


def test_alerts_and_runbooks_are_the_same() -> None:
    assert set(RUNBOOKS) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_its_page(name: str) -> None:
    assert ROOT / ALERTS[name]["annotations"]["runbook"] == RUNBOOKS[name]


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_is_about_its_alert(name: str) -> None:
    page: Path = RUNBOOKS[name]
    text = page.read_text(encoding="utf-8")
    (expression,) = (block.text for block in blocks(page) if block.language == "promql")
    assert expression.strip() == ALERTS[name]["expr"].strip()
    severity, duration = ALERTS[name]["labels"]["severity"], ALERTS[name]["for"]
    assert text.startswith(f"# {name}\n\n{severity.capitalize()}, after {duration}.")
    assert [line for line in text.splitlines() if line.startswith("## ")] == PARTS
    assert "\nThe alert resolves when " in text


def test_the_list_of_alerts_is_whole() -> None:
    text = (DOCS / "runbooks" / "index.md").read_text(encoding="utf-8")
    for name, alert in ALERTS.items():
        assert f"| [{name}]({name}.md) | {alert['labels']['severity']} | " in text
