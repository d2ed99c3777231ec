"""The alerts and silences that are on the log: the fold of the events `alert.*`.

Decisions are facts on the log: reading it again does not make them again."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import NamedTuple

from msgspec import Struct

from schemas import Event, one_line
from schemas.events import AlertFired, AlertResolved, AlertSilenced

from .moments import micros_of, moment_of

ENTITY_CHARACTERS_MAX = 200
RESOLVED_KEPT = 86_400_000_000
"""Microseconds for which a resolved alert is kept: longer than a throttle is useful."""
ALL_KEYS = "*"
"""As the key of a silence: all alerts of the rule."""


class AlertState(Struct, omit_defaults=True):
    """One alert. Times in microseconds since the epoch; `resolved` 0: it fires. `fired_times`: how often it has fired."""

    rule: str
    key: str
    fired: int
    resolved: int = 0
    fired_times: int = 1
    severity: str = "error"
    summary: str = ""
    labels: dict[str, str] = {}
    value: float | None = None
    threshold: float | None = None
    window_seconds: float | None = None
    events: list[str] = []
    tasks: list[str] = []

    @property
    def is_firing(self) -> bool:
        """Whether it fires."""
        return not self.resolved


class AlertSilence(Struct, omit_defaults=True):
    """A silence of the alerts of a rule whose keys match a pattern, `until` a moment."""

    rule: str
    key: str
    until: int
    by: str | None = None


class AlertId(NamedTuple):
    """The id of an alert: its rule and its key (empty: the rule has one alert)."""

    rule: str
    key: str

    @property
    def name(self) -> str:
        """The entity's id: `<rule>/<key>`, or `<rule>` without a key. Long and unprintable keys are replaced by one with a
        hash."""
        name = f"{self.rule}/{self.key}" if self.key else self.rule
        if len(name.encode()) <= ENTITY_CHARACTERS_MAX and name.isprintable():
            return name
        digest = blake2b(self.key.encode(), digest_size=8).hexdigest()
        return f"{one_line(name)[:80].encode('ascii', 'replace').decode()}~{digest}"


class Book(Struct):
    """All alerts, by the name of the entity, and silences. `latest`: the latest event of the book."""

    alerts: dict[str, AlertState] = {}
    silences: dict[str, AlertSilence] = {}
    latest: int = 0

    def take(self, event: Event) -> None:
        """Take an event about an alert; other events are ignored."""
        data, at = event.data, moment_of(event)
        match data:
            case AlertFired():
                self._fire(event.subject, data, at)
            case AlertResolved() if (alert := self.alerts.get(event.subject)) is not None and alert.is_firing:
                alert.resolved = at
            case AlertSilenced():
                self._silence(data)
            case _:
                return
        self.latest = max(self.latest, at)

    def _fire(self, name: str, data: AlertFired, at: int) -> None:
        earlier = self.alerts.get(name)
        self.alerts[name] = AlertState(
            rule=data.rule,
            key=data.key,
            fired=at,
            fired_times=1 if earlier is None else earlier.fired_times + 1,
            severity=data.severity,
            summary=data.summary,
            labels=data.labels,
            value=data.value,
            threshold=data.threshold,
            window_seconds=data.window_seconds,
            events=data.events,
            tasks=data.tasks,
        )

    def _silence(self, data: AlertSilenced) -> None:
        try:
            until = micros_of(data.until)
        except ValueError:  # not written by the hub
            return
        self.silences[AlertId(data.rule, data.key).name] = AlertSilence(data.rule, data.key, until, data.by)

    def advance(self, latest: int) -> None:
        """Remove alerts and silences that ended long before the latest event."""
        before = latest - RESOLVED_KEPT
        for name in [name for name, alert in self.alerts.items() if 0 < alert.resolved < before]:
            del self.alerts[name]
        for name in [name for name, silence in self.silences.items() if silence.until < before]:
            del self.silences[name]

    def firing(self, rule: str) -> Iterator[AlertState]:
        """The alerts of a rule that fire."""
        return (alert for alert in self.alerts.values() if alert.rule == rule and alert.is_firing)

    def silence_of(self, alert: AlertId, now: int) -> AlertSilence | None:
        """The silence that applies to an alert at `now`. The most recent one of each pattern holds."""
        fitting = (
            silence
            for silence in self.silences.values()
            if silence.until > now and fnmatchcase(alert.rule, silence.rule) and fnmatchcase(alert.key, silence.key)
        )
        return next(fitting, None)
