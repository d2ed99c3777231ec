"""A dashboard: rows of panels, variables, links to the other dashboards.

The format is the classic one, which Grafana 10 to 13 read (newer versions convert it when they load it). Source:
`@grafana/schema` 13.2, type `Dashboard`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .layout import Row, placed
from .panels import PROMETHEUS

Json = dict[str, Any]

SCHEMA_VERSION = 41
TAG = "taskhub"


class Dashboard(NamedTuple):
    """A dashboard. `uid`: its stable address, /d/<uid>. `file`: the name of its file. `hours`: the time range at first."""

    uid: str
    file: str
    title: str
    about: str
    variables: Sequence[Json]
    rows: Sequence[Row]
    hours: int = 3

    def as_json(self) -> Json:
        """The dashboard in Grafana's format."""
        return {
            "annotations": {"list": [_GRAFANA, _ALERTS]},
            "description": self.about,
            "editable": True,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [_OTHERS],
            "panels": placed(self.rows),
            "refresh": "30s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG],
            "templating": {"list": list(self.variables)},
            "time": {"from": f"now-{self.hours}h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
            "weekStart": "",
        }


_GRAFANA: Json = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
_ALERTS: Json = {
    "datasource": PROMETHEUS,
    "enable": True,
    "expr": 'ALERTS{alertname=~"Hub.*", alertstate="firing", severity!="none"}',
    "iconColor": "red",
    "name": "Alerts",
    "step": "60s",
    "tagKeys": "severity",
    "textFormat": "{{queue}}{{task}}{{subscriber}}",
    "titleFormat": "{{alertname}}",
}
_OTHERS: Json = {
    "asDropdown": False,
    "icon": "dashboard",
    "includeVars": False,
    "keepTime": True,
    "tags": [TAG],
    "targetBlank": False,
    "title": "taskhub",
    "tooltip": "",
    "type": "dashboards",
    "url": "",
}
