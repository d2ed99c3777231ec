"""Variables of a dashboard: data sources, values of labels, text that is entered. No dashboard names a data source itself."""

from typing import Any

from schemas.instruments import INSTRUMENTS

from .promql import series

Json = dict[str, Any]

ALL = {"text": ["All"], "value": ["$__all"]}


def data_source(kind: str, label: str) -> Json:
    """The data source of this kind (prometheus, loki, tempo), under a variable of the same name."""
    return {"type": "datasource", "name": kind, "label": label, "query": kind, "hide": 0, "multi": False, "refresh": 1}


def values(label: str, title: str, instrument: str, **labels: str) -> Json:
    """The values of a label of an instrument, one, several or all. `labels`: of the series whose values are offered."""
    selector = _offered(instrument, label, labels)
    query = f"label_values({selector}, {label})"
    return {
        "type": "query",
        "name": label,
        "label": title,
        "datasource": {"type": "prometheus", "uid": "${prometheus}"},
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "allValue": ".*",
        "current": ALL,
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "regex": "",
        "sort": 1,
    }


def entered(name: str, title: str, value: str = "") -> Json:
    """A text that is entered."""
    current = {"text": value, "value": value}
    return {"type": "textbox", "name": name, "label": title, "query": value, "current": current, "hide": 0, "options": [current]}


def constant(name: str, value: str) -> Json:
    """A value that expressions use and that is not changed in Grafana."""
    return {"type": "constant", "name": name, "query": value, "current": {"text": value, "value": value}, "hide": 2}


def _offered(instrument: str, label: str, labels: dict[str, str]) -> str:
    if label not in INSTRUMENTS[instrument].labels:
        raise ValueError(f"{instrument} has no label {label!r}")
    return series(instrument, **labels)
