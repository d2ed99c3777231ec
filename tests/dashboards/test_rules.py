"""The rules for Prometheus: they name what the hub measures, and fire when they should (tests of promtool)."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.dashboards import Site, files, write_files

from .expressions import labels_of, named_in
from .test_dashboards import BOARDS, RECORDED, expressions

FOLDER = Path(__file__).parent / "promtool"
SITE = Site("/dashboards")
FILES = files(SITE)
RULES: list[dict[str, Any]] = [
    rule
    for name, content in FILES.items()
    if "/rules/" in name
    for group in yaml.safe_load(content)["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]

alerts = pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}{rule['labels'].get('window', '')}")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_names_instruments_and_labels_of_the_catalogue(rule: dict[str, Any]) -> None:
    found = named_in(rule["expr"])
    allowed: set[str] = set()
    for metric, labels in found.metrics:
        known = labels_of(metric, RECORDED)
        assert known is not None, metric
        assert labels <= known
        allowed |= known
    assert found.grouped <= allowed


@alerts
def test_an_alert_has_a_summary_what_to_do_and_a_dashboard(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket", "none")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "dashboard_url"}
    assert notes["description"].endswith((".", "`."))
    uid, _, query = notes["dashboard_url"].removeprefix("http://127.0.0.1:3000/d/").partition("?")
    names = {one["name"] for one in BOARDS[uid]["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", query)) <= names


@alerts
def test_a_text_uses_labels_that_its_expression_keeps(rule: dict[str, Any]) -> None:
    found = named_in(rule["expr"])
    kept = found.grouped | {label for metric, _ in found.metrics for label in labels_of(metric, RECORDED) or ()}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert used <= (found.grouped or kept) | ({"namespace", "task"} if "namespace_task:" in rule["expr"] else set())


def test_names_are_those_of_the_hub_and_no_rule_is_there_twice() -> None:
    names = [(rule.get("record") or rule["alert"], rule.get("labels", {}).get("window")) for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(rule["alert"].startswith("Hub") for rule in ALERTS)


def test_every_recorded_series_is_used() -> None:
    used = {metric for uid in BOARDS for expression in expressions(uid) for metric, _ in named_in(expression).metrics}
    used |= {metric for rule in RULES for metric, _ in named_in(rule["expr"]).metrics}
    assert RECORDED.keys() - used == set(), "a rule that nothing reads costs memory"


def test_the_site_is_in_the_files() -> None:
    site = Site("/d", ("engine:1", "[::1]:2"), "https://grafana.example/", 0.99)
    found = files(site)
    prometheus = yaml.safe_load(found["prometheus/prometheus.yaml"])
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": ["engine:1", "[::1]:2"]}]
    provider = yaml.safe_load(found["grafana/provisioning/dashboards/hub.yaml"])
    assert provider["providers"][0]["options"]["path"] == "/d"
    pushed = yaml.safe_load(files(site._replace(targets=()))["prometheus/prometheus.yaml"])
    assert pushed.keys() == {"global", "rule_files", "otlp", "storage"}
    rules = found["prometheus/rules/hub-alerts.yaml"]
    assert "> 14.4 * 0.01\n" in rules
    assert "https://grafana.example/d/hub-overview" in rules
    assert "(1 - 0.99)" in found["prometheus/rules/hub-recording.yaml"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objective", 1.0, "objective: must be above 0 and below 1"),
        ("objective", 0.0, "objective: "),
        ("grafana_url", "localhost:3000", "grafana_url: must be a URL"),
        ("targets", ("http://127.0.0.1:9464",), "targets: must have the form host:port"),
    ],
)
def test_an_invalid_site_is_refused_with_the_field(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        files(SITE._replace(**{field: value}))


def test_every_alert_is_in_a_test_of_promtool() -> None:
    tested = "".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    assert [rule["alert"] for rule in ALERTS if f'{rule["alert"]}"' not in tested and f" {rule['alert']}\n" not in tested] == []


@pytest.mark.prometheus
def test_promtool_accepts_configuration_rules_and_the_expressions_of_all_dashboards(promtool: Path, tmp_path: Path) -> None:
    write_files(tmp_path, SITE)
    every = [one for uid in BOARDS for one in expressions(uid)]
    filled = [one.replace("$__rate_interval", "1m").replace("$__range", "3h").replace("$objective", "0.999") for one in every]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(filled)]
    (tmp_path / "prometheus" / "rules" / "panels.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})
    )
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus" / "prometheus.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(every)} rules found" in done.stdout


@pytest.mark.prometheus
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_alerts_fire_when_they_should(name: str, promtool: Path) -> None:
    done = subprocess.run([promtool, "test", "rules", FOLDER / name], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
