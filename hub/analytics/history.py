"""The dry run of rules against history: which alerts would have fired, and when. Pure and deterministic.

Events of all partitions come in the order of their times. Rules are evaluated after events, at most once per second, and at the
moments in between at which a condition may change; what they decide goes to a book of its own. Alerts and silences of the log are
ignored, and nothing is sent.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import Event
from schemas.events import AlertFired

from .book import AlertState
from .deciding import AlertTransition, decide
from .moments import SECOND, micros, moment_of
from .rule_kinds import Absence, Rule, ServiceLevel, Succession, seconds
from .view import Shape, View

STEP = SECOND
"""Rules are evaluated at most once in this time of the events."""


class SimulatedAlert(NamedTuple):
    """One firing of an alert. `resolved`: None if it would still fire at the end. Microseconds since the epoch."""

    rule: str
    key: str
    fired: int
    resolved: int | None
    transition: AlertTransition


class RuleTrial:
    """Simulates rules. `take` events in the order of their times, then `finish`."""

    def __init__(self, rules: Sequence[Rule], begin: int = 0) -> None:
        """`begin`: alerts before this moment are not listed, but earlier events may be taken."""
        self.view = View(Shape(rules, pane_seconds=1.0, keep_seconds=1.0))
        self.firings: list[SimulatedAlert] = []
        self.events = 0
        self._begin = begin
        self._evaluated = 0
        self._offset = 0

    def take(self, event: Event) -> None:
        """Take the next event. Events about alerts are ignored."""
        if event.entity.startswith("alert/"):
            return
        at = moment_of(event)
        self.events += 1
        self._run_until(at - 1)
        self.view.take(0, self._offset, event)
        self._offset += 1
        if at - self._evaluated >= STEP:
            self._evaluate(at)

    def finish(self, end: int) -> list[SimulatedAlert]:
        """Evaluate until `end`, and return all firings in the order of their times."""
        self._run_until(end)
        return self.firings

    def _run_until(self, end: int) -> None:
        """Evaluate at all moments before or at `end` at which something may change without an event."""
        while self._evaluated and (moment := self.view.next_change(self._evaluated)) is not None:
            moment = max(moment, self._evaluated + STEP)
            if moment > end:
                return
            self._evaluate(moment)

    def _evaluate(self, now: int) -> None:
        self._evaluated = now
        for transition in decide(self.view.evaluation(now)):
            self._apply(transition)

    def _apply(self, transition: AlertTransition) -> None:
        (rule, key), now, alerts = transition.alert, transition.at, self.view.book.alerts
        name = transition.alert.name
        if isinstance(transition.data, AlertFired):
            alerts[name] = AlertState(rule=rule, key=key, fired=now, labels=transition.data.labels)
            if now >= self._begin:
                self.firings.append(SimulatedAlert(rule, key, now, None, transition))
            return
        alerts[name].resolved = now
        for index in range(len(self.firings) - 1, -1, -1):
            if self.firings[index][:2] == (rule, key):
                self.firings[index] = self.firings[index]._replace(resolved=now)
                break


def lead_seconds(rules: Sequence[Rule]) -> float:
    """How long before the first moment events are needed, so that all windows are full then."""
    return max((window / SECOND for rule in rules for window in _windows(rule)), default=0.0)


def _windows(rule: Rule) -> list[int]:
    match rule:
        case ServiceLevel():
            return [micros(seconds(burn.long, "long")) for burn in rule.burns]
        case Succession():
            return [micros(seconds(rule.window, "window") + seconds(rule.within, "within"))]
        case Absence():
            return [4 * micros(seconds(rule.window, "window"))]
    return [micros(seconds(rule.window, "window"))]
