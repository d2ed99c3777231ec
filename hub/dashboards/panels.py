"""Panels of Grafana as plain JSON values, without id and position, which `layout.py` adds.

Source: `@grafana/schema` 13.2, types `Panel`, `FieldConfig` and the options of each kind of panel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .promql import RANGE

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "${prometheus}"}
LOKI: Json = {"type": "loki", "uid": "${loki}"}
TEMPO: Json = {"type": "tempo", "uid": "${tempo}"}

GREEN, YELLOW, RED = "green", "yellow", "red"
PER_SECOND = "suffix:/s"
"""The unit of rates of tasks, events and records."""
_NAMES = {
    GREEN: ("success", "ok"),
    YELLOW: ("retry",),
    RED: ("failure", "dlq"),
    "dark-red": ("error", "lost"),
    "orange": ("timeout",),
    "blue": ("cancellation", "postponed"),
    "purple": ("skip", "drop"),
    "#8e8e8e": ("released", "superseded"),
}
COLORS = {name: color for color, names in _NAMES.items() for name in names}
"""Colours of results of tasks, outcomes of attempts and of deliveries: the same on all dashboards."""


class Query(NamedTuple):
    """An expression and the name of its series; `{{label}}` is replaced."""

    expression: str
    legend: str = ""


class Levels(NamedTuple):
    """The values from which a number is yellow and red. `rising`: larger is worse; otherwise smaller is worse."""

    yellow: float
    red: float
    rising: bool = True

    def steps(self) -> list[Json]:
        """The steps of Grafana's thresholds, ascending."""
        if self.rising:
            marks = [(None, GREEN), (self.yellow, YELLOW), (self.red, RED)]
        else:
            marks = [(None, RED), (self.red, YELLOW), (self.yellow, GREEN)]
        return [{"color": color, "value": value} for value, color in marks]


class TableColumn(NamedTuple):
    """A column of a table: an instant query whose value it shows, its unit, and the levels of its colour."""

    title: str
    expression: str
    unit: str = "short"
    levels: Levels | None = None


def stat(
    title: str, expression: str, unit: str, about: str, levels: Levels | None = None, *, decimals: int | None = None
) -> Json:
    """One number, with a sparkline behind it. A number about the time range has none: its query is an instant query.
    `decimals`: their number; None: Grafana chooses it."""
    whole_range = RANGE in expression
    target = _target(0, Query(expression))
    config = _fields(unit, levels)
    if decimals is not None:
        config["defaults"]["decimals"] = decimals
    return {
        **_panel("stat", title, about),
        "datasource": PROMETHEUS,
        "targets": [{**target, "instant": True, "range": False} if whole_range else target],
        "fieldConfig": config,
        "options": {
            "colorMode": "background" if levels else "value",
            "graphMode": "none" if whole_range else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
            "wideLayout": True,
        },
    }


def graph(title: str, queries: Sequence[Query], unit: str, about: str, *, stacked: bool = False) -> Json:
    """Lines over time, or stacked areas. The legend shows the largest series first."""
    config = _fields(unit, None)
    if any(query.legend in ("{{result}}", "{{outcome}}") for query in queries):
        config["overrides"] = [_colored(name, color) for name, color in COLORS.items()]
    config["defaults"]["custom"] = {
        "drawStyle": "line",
        "fillOpacity": 40 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }
    config["defaults"]["min"] = 0
    return {
        **_panel("timeseries", title, about),
        "datasource": PROMETHEUS,
        "targets": [_target(number, query) for number, query in enumerate(queries)],
        "fieldConfig": config,
        "options": {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "sortBy": "Last *",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def timeline(title: str, query: Query, texts: Sequence[tuple[str, str]], about: str) -> Json:
    """One bar per series over time, whose colour and text are that of the value: `texts` has text and colour of 0, 1, 2 ..."""
    named = {str(number): {"index": number, "text": text, "color": color} for number, (text, color) in enumerate(texts)}
    config = _fields("none", None)
    config["defaults"]["mappings"] = [{"type": "value", "options": named}]
    config["defaults"]["custom"] = {"fillOpacity": 70, "lineWidth": 0, "spanNulls": False}
    return {
        **_panel("state-timeline", title, about),
        "datasource": PROMETHEUS,
        "targets": [_target(0, query)],
        "fieldConfig": config,
        "options": {
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    }


def with_exemplars(panel: Json) -> Json:
    """The panel with exemplars: points that link a measurement with its trace."""
    return {**panel, "targets": [{**target, "exemplar": True} for target in panel["targets"]]}


def heatmap(title: str, buckets: str, unit: str, about: str) -> Json:
    """A distribution over time, from the rates of a histogram's buckets by `le`."""
    target = {**_target(0, Query(buckets, "{{le}}")), "format": "heatmap", "exemplar": True}
    return {
        **_panel("heatmap", title, about),
        "datasource": PROMETHEUS,
        "targets": [target],
        "fieldConfig": {"defaults": {"custom": {"scaleDistribution": {"type": "linear"}}}, "overrides": []},
        "options": {
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "cps"},
            "color": {"exponent": 0.5, "fill": "blue", "mode": "scheme", "reverse": False, "scheme": "Blues", "steps": 64},
            "exemplars": {"color": "rgba(255,120,0,0.8)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
        },
    }


def table(title: str, columns: Sequence[TableColumn], about: str, link: Json | None = None) -> Json:
    """A table of instant queries with the same labels: one row per combination of labels, the first column descending.

    `link`: of the label that it names under "field"."""
    overrides = [_override(f"Value #{_letter(number)}", column) for number, column in enumerate(columns)]
    if link is not None:
        links = {"id": "links", "value": [{"title": link["title"], "url": link["url"]}]}
        overrides.append({"matcher": {"id": "byName", "options": link["field"]}, "properties": [links]})
    return {
        **_panel("table", title, about),
        "datasource": PROMETHEUS,
        "targets": [
            {**_target(number, Query(column.expression)), "format": "table", "instant": True, "range": False}
            for number, column in enumerate(columns)
        ],
        "fieldConfig": {"defaults": {"custom": {"align": "auto", "filterable": True, "inspect": False}}, "overrides": overrides},
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}},
        ],
        "options": {
            "cellHeight": "sm",
            "showHeader": True,
            "sortBy": [{"desc": True, "displayName": columns[0].title}],
        },
    }


def logs(title: str, expression: str, about: str) -> Json:
    """Log records from Loki, the newest first."""
    return {
        **_panel("logs", title, about),
        "datasource": LOKI,
        "targets": [{"datasource": LOKI, "editorMode": "code", "expr": expression, "queryType": "range", "refId": "A"}],
        "options": {
            "dedupStrategy": "none",
            "enableLogDetails": True,
            "prettifyLogMessage": False,
            "showCommonLabels": False,
            "showLabels": False,
            "showTime": True,
            "sortOrder": "Descending",
            "wrapLogMessage": True,
        },
    }


def trace(title: str, trace_id: str, about: str) -> Json:
    """One trace from Tempo as a tree of spans."""
    return {
        **_panel("traces", title, about),
        "datasource": TEMPO,
        "targets": [{"datasource": TEMPO, "query": trace_id, "queryType": "traceql", "refId": "A"}],
        "options": {},
    }


def traces(title: str, query: str, about: str) -> Json:
    """A list of traces that Tempo finds by a query in TraceQL."""
    target = {"datasource": TEMPO, "limit": 20, "query": query, "queryType": "traceql", "refId": "A", "tableType": "traces"}
    return {
        **_panel("table", title, about),
        "datasource": TEMPO,
        "targets": [target],
        "fieldConfig": {"defaults": {"custom": {"align": "auto", "inspect": False}}, "overrides": []},
        "options": {"cellHeight": "sm", "showHeader": True},
    }


def text(content: str) -> Json:
    """A text in Markdown."""
    return {
        **_panel("text", "", ""),
        "options": {"content": content, "mode": "markdown"},
    }


def _panel(kind: str, title: str, about: str) -> Json:
    return {"type": kind, "title": title, "description": about}


def _target(number: int, query: Query) -> Json:
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": query.expression,
        "instant": False,
        "legendFormat": query.legend or "__auto",
        "range": True,
        "refId": _letter(number),
    }


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _fields(unit: str, levels: Levels | None) -> Json:
    steps = [{"color": GREEN, "value": None}] if levels is None else levels.steps()
    color = {"mode": "palette-classic"} if levels is None else {"mode": "thresholds"}
    return {"defaults": {"color": color, "thresholds": {"mode": "absolute", "steps": steps}, "unit": unit}, "overrides": []}


def _colored(name: str, color: str) -> Json:
    value = {"mode": "fixed", "fixedColor": color}
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": value}]}


def _override(field: str, column: TableColumn) -> Json:
    properties: list[Json] = [{"id": "displayName", "value": column.title}, {"id": "unit", "value": column.unit}]
    if column.levels is not None:
        properties += [
            {"id": "thresholds", "value": {"mode": "absolute", "steps": column.levels.steps()}},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    return {"matcher": {"id": "byName", "options": field}, "properties": properties}
