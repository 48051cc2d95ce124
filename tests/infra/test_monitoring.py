"""The dashboard and the alerts: every expression parses, and every metric and label in it is one that a service has."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import lastseen
from lastseen.http.application import Unguarded, build
from lastseen.http.routes import health, metrics
from lastseen.service.tls import CertificateExpiry

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
BY_FILE = {
    name: [
        rule
        for group in yaml.safe_load((INFRA / "prometheus" / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    for name in ("rules.yml", "opt-in.yml")
}
ALERTS = [alert for alerts in BY_FILE.values() for alert in alerts]
DASHBOARD = json.loads((INFRA / "grafana" / "dashboards" / "engines.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
PROMETHEUS_OWN = {"up"}
FROM_SCRAPING = {"instance", "job"}
"""Labels that Prometheus adds."""


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in CHARTS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


EXPRESSIONS = list(expressions())


def parsed(expression: str) -> promql_parser.Expr:
    """An expression as Prometheus reads it, Grafana's variables filled in."""
    return promql_parser.parse(expression.replace("$__rate_interval", "1m").replace("$instance", ".*"))


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """What it selects."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: object) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(parsed(expression), visit)
    return found


@cache
def reported() -> Mapping[str, Mapping[str, set[str]]]:
    """What a live service says: metric → label → its values."""
    requests = metrics.RequestMetrics()
    with lastseen.open_engine("memory://", background=False) as engine:
        readiness = health.ReadinessMetrics(health.Readiness(engine, lambda: False, is_strict=False))
        expiry = CertificateExpiry()
        expiry.not_after_s = 1.0
        routers = [metrics.router(engine, requests, readiness, expiry)]
        app = build(engine, guard=requests.with_metrics(Unguarded), operations=routers)

        async def asked() -> str:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                await client.get("/v1/sessions")
                return (await client.get("/metrics")).text

        text = asyncio.run(asked())
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items() or [("", "")]:
                found[sample.name][label].add(value)
    return found


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_an_expression_selects_what_there_is(where: str, expression: str) -> None:
    chosen = selectors(expression)
    assert chosen, where
    for selector in chosen:
        if selector.name in PROMETHEUS_OWN:
            continue
        assert selector.name in reported(), f"{where}: no service says {selector.name}"
        labels = reported()[selector.name]
        for matcher in selector.matchers.matchers:
            if matcher.name in FROM_SCRAPING:
                continue
            assert matcher.name in labels, f"{where}: {selector.name} has no label {matcher.name}"
            values = matcher.value.split("|") if matcher.op is promql_parser.MatchOp.Re else [matcher.value]
            if selector.name != "lastseen_http_requests_total":  # its statuses come as they come
                assert set(values) <= labels[matcher.name], f"{where}: {selector.name} {matcher.name} is never such"


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_counters_are_seen_as_rates_and_grouped_by_labels_that_there_are(where: str, expression: str) -> None:
    for selector in selectors(expression):
        name = selector.name or ""
        if name.endswith(("_total", "_bucket")):
            assert re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression), f"{where}: {name}"
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        labels = {label.strip() for label in group.split(",")} - FROM_SCRAPING
        known = {label for each in selectors(expression) for label in reported().get(each.name or "", {})}
        assert labels <= known, where


def test_every_figure_of_ours_has_a_place_on_the_dashboard() -> None:
    shown = {selector.name for panel in CHARTS for target in panel["targets"] for selector in selectors(target["expr"])}
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in reported() if name.startswith("lastseen_")}

    missing = ours - {re.sub(r"_bucket$", "", name or "") for name in shown}

    # The version is in the list of instances, the newest session's age in the log line.
    assert missing == {"lastseen_build_info", "lastseen_newest_session_age_seconds"}


def test_alerts_say_what_to_do() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names) >= 15
    for alert in ALERTS:
        assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}, alert["alert"]
        assert alert["labels"] in ({"severity": "warning"}, {"severity": "critical"})
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert promql_parser.parse_duration(alert["for"]).total_seconds() >= 60
        said = " ".join(alert["annotations"].values())
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", alert["expr"]) for label in group.split(", ")}
        for label in re.findall(r"\$labels\.(\w+)", said):
            is_kept = label in grouped or not re.search(r"\b(sum|max)\b", alert["expr"])
            assert is_kept, f"{alert['alert']}: the result has no label {label}"


@pytest.mark.parametrize("alert", ["LastseenTooManyActiveSessions", "LastseenSessionTooOld", "LastseenSessionsChurn"])
def test_what_depends_on_the_service_is_loaded_for_none_that_did_not_ask(alert: str) -> None:
    """A bot whose sessions idle out has churn by design, and many sessions are no fault: nothing is loaded for them."""
    prometheus = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert prometheus["rule_files"] == ["/etc/prometheus/rules.yml"]
    assert alert in [each["alert"] for each in BY_FILE["opt-in.yml"]]
    by_default = " ".join(each["expr"] for each in BY_FILE["rules.yml"])
    for metric in ("lastseen_sessions{", "lastseen_sessions_created_total", "lastseen_oldest_session_age_seconds"):
        assert metric not in by_default
    assert not re.search(r"lastseen_sessions_ended_total\{[^}]*(idle|max_age|suspend_ttl)", by_default)


@pytest.mark.parametrize(
    ("alert", "limit"),
    [
        ("LastseenTooManyActiveSessions", "> 1000"),
        ("LastseenSessionTooOld", "> 2 * 60 * 60"),
        ("LastseenSessionsChurn", "> 0.9"),
    ],
)
def test_the_predecessors_thresholds(alert: str, limit: str) -> None:
    (rule,) = [each for each in ALERTS if each["alert"] == alert]
    assert limit in rule["expr"]


def test_the_dashboard_is_in_form() -> None:
    source = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    (uid,) = [each["uid"] for each in source["datasources"]]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in CHARTS:
        assert panel["datasource"] == {"type": "prometheus", "uid": uid}
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["refId"] for target in panel["targets"]] == sorted({each["refId"] for each in panel["targets"]})
    (variable,) = DASHBOARD["templating"]["list"]
    assert variable["query"]["query"] == "label_values(lastseen_build_info, instance)"
    assert "lastseen_build_info" in reported()
