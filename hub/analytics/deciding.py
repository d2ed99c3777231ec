"""Decides which alerts fire and which are resolved: a pure function of findings, book and time."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from schemas.events import AlertFired, AlertResolved

from .book import AlertId, AlertState, Book
from .keyed import RuleFinding
from .moments import SECOND, micros, time_of
from .rule_kinds import Absence, Rule, ServiceLevel, seconds

GROUP_KEY = "*"
"""Key of the alert that stands for many keys of a rule (`group_from`)."""
SUMMARY_CHARACTERS_MAX = 1_024
LABEL_CHARACTERS_MAX = 200


class AlertTransition(NamedTuple):
    """An alert fires or is resolved. `data` is the event; `finding`: why it fires. `at`: the moment of the decision."""

    alert: AlertId
    rule: Rule | None
    data: AlertFired | AlertResolved
    finding: RuleFinding | None
    at: int


class Evaluation(NamedTuple):
    """What a decision depends on. `findings`: by rule and key. `waiting`: names of alerts with a transition that is sent
    and not yet on the log; they are not decided again."""

    rules: Sequence[Rule]
    findings: Mapping[str, Mapping[str, RuleFinding]]
    book: Book
    now: int
    waiting: Collection[str] = ()


def decide(given: Evaluation) -> list[AlertTransition]:
    """The transitions, at most one per alert; rules that inhibit others come first in `rules`."""
    found: list[AlertTransition] = []
    known = {rule.name for rule in given.rules if rule.enabled}
    for rule in given.rules:
        if rule.enabled:
            found += _of_rule(given, rule, found)
    for alert in given.book.alerts.values():
        if alert.is_firing and alert.rule not in known:
            found.append(_resolved(alert, None, given.now, "The rule was removed or disabled."))
    return [one for one in found if one.alert.name not in given.waiting]


def _of_rule(given: Evaluation, rule: Rule, earlier: Sequence[AlertTransition]) -> list[AlertTransition]:
    firing = {alert.key: alert for alert in given.book.firing(rule.name)}
    findings = _grouped(rule, given.findings.get(rule.name, {}), firing)
    ended = [alert for key, alert in firing.items() if key not in findings]
    found = [_resolved(alert, rule, given.now, "The condition is no longer met.") for alert in ended]
    for key, finding in findings.items():
        if key not in firing and _may_fire(given, rule, AlertId(rule.name, key), finding, earlier):
            found.append(_fired(rule, key, finding, given.now))
    return found


def _grouped(rule: Rule, findings: Mapping[str, RuleFinding], firing: Collection[str]) -> Mapping[str, RuleFinding]:
    """The findings; if they are many, one that stands for all keys that do not fire yet."""
    if not rule.group_from or len(findings) < rule.group_from:
        return findings
    latest = max(finding.latest for finding in findings.values())
    causes = sorted(cause for finding in findings.values() for cause in finding.causes)[-10:]
    group = RuleFinding(float(len(findings)), float(rule.group_from), latest, (), tuple(causes))
    return {GROUP_KEY: group, **{key: finding for key, finding in findings.items() if key in firing}}


def _may_fire(given: Evaluation, rule: Rule, alert: AlertId, finding: RuleFinding, earlier: Sequence[AlertTransition]) -> bool:
    now = given.now
    if finding.latest < now - micros(seconds(rule.max_event_age, "max_event_age")):
        return False
    before = given.book.alerts.get(alert.name)
    if before is not None and now - before.fired < micros(seconds(rule.throttle, "throttle", least=0.0)):
        return False
    return given.book.silence_of(alert, now) is None and not _is_inhibited(given, rule, finding, earlier)


def _is_inhibited(given: Evaluation, rule: Rule, finding: RuleFinding, earlier: Sequence[AlertTransition]) -> bool:
    mine = labels_of(rule, finding.values)
    for parent in rule.inhibited_by:
        resolved = {one.alert.name for one in earlier if isinstance(one.data, AlertResolved)}
        others = [alert.labels for alert in given.book.firing(parent) if AlertId(alert.rule, alert.key).name not in resolved]
        others += [one.data.labels for one in earlier if one.alert.rule == parent and isinstance(one.data, AlertFired)]
        if any(all(mine.get(name) == labels.get(name) for name in rule.inhibit_equal) for labels in others):
            return True
    return False


def labels_of(rule: Rule, values: Sequence[str]) -> dict[str, str]:
    """The labels of an alert: those of its rule, and the values of `for_each`."""
    return {**rule.labels, **{name: value[:LABEL_CHARACTERS_MAX] for name, value in zip(rule.for_each, values, strict=False)}}


def _fired(rule: Rule, key: str, finding: RuleFinding, now: int) -> AlertTransition:
    window = None if isinstance(rule, ServiceLevel) else seconds(rule.window, "window")
    data = AlertFired(
        rule=rule.name,
        key=key,
        severity=rule.severity,
        summary=summary_of(rule, key, finding, window)[:SUMMARY_CHARACTERS_MAX],
        labels=labels_of(rule, finding.values),
        value=round(finding.value, 6),
        threshold=finding.threshold,
        window_seconds=window,
        events=[cause.event for cause in finding.causes],
        tasks=list(dict.fromkeys(cause.task for cause in finding.causes if cause.task)),
    )
    return AlertTransition(AlertId(rule.name, key), rule, data, finding, now)


def summary_of(rule: Rule, key: str, finding: RuleFinding, window: float | None) -> str:
    """The text of the rule, or one that says what was found."""
    if rule.summary:
        return rule.text(
            {"value": finding.value, "threshold": finding.threshold, "key": key, "window": window, "rule": rule.name}
        )
    where = f" of {key}" if key and key != GROUP_KEY else ""
    if key == GROUP_KEY and rule.group_from:
        return f"{rule.name}: the condition holds for {finding.value:g} keys"
    if isinstance(rule, Absence):
        return f"{rule.name}: no event{where} for {finding.value:.0f} s (limit {finding.threshold:g} s)"
    if isinstance(rule, ServiceLevel):
        return (
            f"{rule.name}: the error budget{where} is consumed {finding.value:.3g} times too fast (limit {finding.threshold:g})"
        )
    return f"{rule.name}: {finding.value:.4g}{where} in {window or 0:g} s (threshold {finding.threshold:g})"


def _resolved(alert: AlertState, rule: Rule | None, now: int, why: str) -> AlertTransition:
    data = AlertResolved(
        rule=alert.rule,
        key=alert.key,
        severity=alert.severity,  # type: ignore[arg-type] # one that was on the log
        summary=f"{why} It fired for {max(0, now - alert.fired) / SECOND:.0f} s.",
        labels=alert.labels,
        fired_at=time_of(alert.fired),
    )
    return AlertTransition(AlertId(alert.rule, alert.key), rule, data, None, now)
