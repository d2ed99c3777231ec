"""The dashboards: every expression names what the hub measures, and Grafana can show them as they are."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from hub.dashboards import COMPOSE, dashboards, files
from hub.dashboards.recording import recordings
from hub.dashboards.subscribers_alerts import STATES
from hub.dashboards.variables import values
from hub.delivery.status import State
from schemas.instruments import INSTRUMENTS

from .expressions import labels_of, named_in, names_of, objects

OBJECTIVE = 0.999
GENERATED = Path(__file__).parents[2] / "hub" / "dashboards" / "generated"
BOARDS: dict[str, dict[str, Any]] = {one.uid: one.as_json() for one in dashboards(OBJECTIVE)}
RECORDED = {one.name: {"namespace", "task"} if one.name.startswith("namespace_task:") else set() for one in recordings(OBJECTIVE)}
OF_GRAFANA = {"__rate_interval", "__range", "__all", "__url_time_range", "__value"}
UNITS = {"short", "none", "s", "suffix:/s", "reqps", "Bps", "bytes", "percentunit"}

boards = pytest.mark.parametrize("uid", BOARDS)


def panels(uid: str) -> list[dict[str, Any]]:
    """All panels but the headings."""
    return [panel for panel in BOARDS[uid]["panels"] if panel["type"] != "row"]


def expressions(uid: str) -> list[str]:
    """The expressions for Prometheus."""
    return [
        target["expr"]
        for panel in panels(uid)
        for target in panel.get("targets", [])
        if target["datasource"]["type"] == "prometheus"
    ]


def test_the_written_files_are_those_of_the_code() -> None:
    """After a change: python -m hub.dashboards"""
    wanted = files(COMPOSE)
    found = {str(path.relative_to(GENERATED)): path.read_text() for path in GENERATED.rglob("*") if path.is_file()}
    assert found == wanted


def test_addresses_are_stable() -> None:
    assert list(BOARDS) == ["hub-overview", "hub-task-type", "hub-queues", "hub-streams", "hub-subscribers", "hub-task"]
    assert len({board["title"] for board in BOARDS.values()}) == 6


@boards
def test_every_expression_names_instruments_and_labels_of_the_catalogue(uid: str) -> None:
    assert expressions(uid)
    for expression in expressions(uid):
        found = named_in(expression)
        assert found.metrics, expression
        allowed: set[str] = set()
        for metric, labels in found.metrics:
            known = labels_of(metric, RECORDED)
            assert known is not None, f"{metric} in {expression}"
            assert labels <= known, f"{metric} has no label {sorted(labels - known)}: {expression}"
            allowed |= known
        assert found.grouped <= allowed, f"no metric has {sorted(found.grouped - allowed)}: {expression}"


def test_every_instrument_is_on_a_dashboard() -> None:
    shown = {metric for uid in BOARDS for expression in expressions(uid) for metric, _ in named_in(expression).metrics}
    missing = [name for name, instrument in INSTRUMENTS.items() if not names_of(instrument) & shown]
    assert missing == []


@boards
def test_a_series_is_named_by_labels_that_it_has(uid: str) -> None:
    for panel in panels(uid):
        for target in panel.get("targets", []):
            labels = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert labels <= named_in(target.get("expr", "")).grouped, target


@boards
def test_no_data_source_is_named_but_by_a_variable(uid: str) -> None:
    sources = [one["datasource"] for one in objects(BOARDS[uid]) if isinstance(one.get("datasource"), dict)]
    assert sources
    kinds = {"prometheus", "loki", "tempo"}
    for source in sources:
        ours = source["uid"] == f"${{{source['type']}}}" and source["type"] in kinds
        assert ours or source == {"type": "grafana", "uid": "-- Grafana --"}
    declared = {one["name"] for one in BOARDS[uid]["templating"]["list"] if one["type"] == "datasource"}
    assert {source["type"] for source in sources} - {"grafana"} == declared


@boards
def test_every_variable_that_is_used_is_declared_and_every_declared_one_is_used(uid: str) -> None:
    board = BOARDS[uid]
    declared = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"(?<![\w$])\$\{?([A-Za-z_]\w*)", json.dumps({**board, "links": []}, ensure_ascii=False)))
    assert used - OF_GRAFANA == declared


@boards
def test_panels_do_not_overlap_and_have_ids_of_their_own(uid: str) -> None:
    every = BOARDS[uid]["panels"]
    assert sorted(panel["id"] for panel in every) == list(range(1, len(every) + 1))
    places = [panel["gridPos"] for panel in every]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 and one["h"] > 0 for one in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@boards
def test_lines_of_panels_have_no_gaps(uid: str) -> None:
    lines: dict[int, list[dict[str, int]]] = {}
    for panel in BOARDS[uid]["panels"]:
        lines.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])
    for line in lines.values():
        assert sum(place["w"] for place in line) == 24
        assert len({place["h"] for place in line}) == 1


@boards
def test_panels_of_a_dashboard_have_different_titles(uid: str) -> None:
    titles = [(panel["type"] == "stat", panel["title"]) for panel in panels(uid)]
    assert len(set(titles)) == len(titles)


@boards
def test_alerts_that_fire_are_counted_without_the_watchdog_which_always_fires(uid: str) -> None:
    every = [*expressions(uid), *(one["expr"] for one in BOARDS[uid]["annotations"]["list"] if "expr" in one)]
    firing = [one for one in every if "ALERTS{" in one]
    assert all('severity!="none"' in one for one in firing)
    assert firing


@boards
def test_a_number_about_the_time_range_is_asked_for_once(uid: str) -> None:
    for panel in panels(uid):
        for target in panel.get("targets", []):
            if panel["type"] == "stat":
                assert target["instant"] == ("$__range" in target["expr"]), panel["title"]
            elif panel["type"] != "table":
                assert "$__range" not in target.get("expr", ""), panel["title"]


def test_the_states_of_subscribers_are_those_of_delivery() -> None:
    assert sorted(state for state, _ in STATES) == sorted(get_args(State))
    (panel,) = [panel for panel in panels("hub-subscribers") if panel["type"] == "state-timeline"]
    texts = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    (expression,) = [target["expr"] for target in panel["targets"]]
    found = {texts[number]["text"] for number in re.findall(r"\* (\d)", expression)}
    assert found == {state for state, _ in STATES}


@boards
def test_a_panel_says_what_it_shows_in_which_unit(uid: str) -> None:
    for panel in panels(uid):
        assert panel["type"] == "text" or (panel["title"] and panel["description"].endswith(".")), panel["title"]
        units = [unit for one in objects(panel) if isinstance(unit := one.get("unit"), str)]
        assert set(units) <= UNITS | {"cps"}, panel["title"]
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert letters == [chr(65 + index) for index in range(len(letters))]


@boards
def test_links_lead_to_dashboards_and_variables_that_exist(uid: str) -> None:
    for url in re.findall(r"/d/([^\"]+)", json.dumps(BOARDS[uid])):
        target, _, query = url.partition("?")
        names = {one["name"] for one in BOARDS[target]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", query)) <= names


def test_the_objective_is_that_of_the_site() -> None:
    overview = json.loads(files(COMPOSE._replace(objective=0.95))["grafana/dashboards/overview.json"])
    (constant,) = [one for one in overview["templating"]["list"] if one["name"] == "objective"]
    assert constant["query"] == "0.95"
    steps = overview["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [round(one["value"], 6) for one in steps[1:]] == [0.5, 0.95]


def test_a_variable_of_a_label_that_an_instrument_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="hub.task.created has no label 'pool'"):
        values("pool", "Pool", "hub.task.created")
