"""The lifecycle of an alert. The entity is `alert/<rule>/<key>`."""

from typing import Annotated, Literal

from ..fields import By, about
from .base import EventData

Severity = Literal["critical", "error", "warning", "info"]


class AlertEvent(EventData, kw_only=True):
    """Common fields: an alert is identified by its rule and its key."""

    rule: Annotated[str, about("Name of the rule.", "charge-fails")]
    key: Annotated[
        str, about("What the rule counted separately, such as a task name; absent: the rule has one alert.", "charge")
    ] = ""
    severity: Annotated[Severity, about("How serious it is; absent: error.", "error")] = "error"
    summary: Annotated[str, about("The alert in one sentence; at most 1,024 characters.", "5 of 6 charges failed in 5 min")] = ""
    labels: Annotated[dict[str, str], about("Labels of the rule and of its key; absent: none.", {"team": "billing"})] = {}


class AlertFired(AlertEvent, kw_only=True):
    """The condition of a rule is met."""

    value: Annotated[float | None, about("The value that met the condition; absent: the rule has none.", 5.0)] = None
    threshold: Annotated[float | None, about("The value from which the condition is met; absent: none.", 3.0)] = None
    window_seconds: Annotated[float | None, about("Length of the window in seconds; absent: none.", 300.0)] = None
    events: Annotated[list[str], about("Ids of the latest events that caused it, at most 10; absent: none.", ["0/42/3"])] = []
    tasks: Annotated[list[str], about("Ids of the tasks of these events, at most 10; absent: none.", ["order-7"])] = []


class AlertResolved(AlertEvent, kw_only=True):
    """The condition of a rule is no longer met."""

    fired_at: Annotated[str, about("When the alert fired (RFC 3339, UTC).", "2026-01-01T09:25:00Z")]


class AlertSilenced(AlertEvent, kw_only=True):
    """An operator silenced the alert: it notifies nobody until then."""

    until: Annotated[str, about("When the silence ends (RFC 3339, UTC).", "2026-01-01T12:00:00Z")]
    by: By = None
