"""Scripted logs: events at seconds after a beginning."""

from collections.abc import Iterable
from typing import Any

from hub.analytics import Rule, RuleTrial, SimulatedAlert, parse_rules
from hub.analytics.moments import SECOND, micros, micros_of, time_of
from hub.testing import make_event
from schemas import Event

BEGIN = micros_of("2026-01-01T00:00:00Z")


def at(seconds: float) -> int:
    """The moment this long after the beginning."""
    return BEGIN + micros(seconds)


def event(
    seconds: float, event_type: str, task: str = "charge", /, *, id: str = "t", root: str | None = None, **data: Any
) -> Event:
    """An event of the task `id` with the name `task`."""
    envelope = {"time": time_of(at(seconds)), "subject": id, "taskname": task, "rootid": root}
    return make_event(event_type, envelope=envelope, **data)


def completed(
    seconds: float, task: str = "charge", /, *, run: float = 1.0, wait: float = 0.5, id: str = "t", **data: Any
) -> Event:
    """The end of a task that waited and ran for these times."""
    return event(
        seconds,
        "task.completed",
        task,
        id=id,
        created_at=time_of(at(seconds - run - wait)),
        ready_at=time_of(at(seconds - run - wait)),
        started_at=time_of(at(seconds - run)),
        finished_at=time_of(at(seconds)),
        ran_seconds=run,
        **data,
    )


def rule(**fields: Any) -> Rule:
    """One rule, with the name "r" unless another is given."""
    return parse_rules([{"name": "r", **fields}])[0]


def run_history(rules: Rule | list[Rule], events: Iterable[Event], end: float) -> list[SimulatedAlert]:
    """The firings of rules in a scripted log."""
    history = RuleTrial(rules if isinstance(rules, list) else [rules])
    for one in events:
        history.take(one)
    return history.finish(at(end))


def spans(firings: list[SimulatedAlert]) -> list[tuple[str, float, float | None]]:
    """Key, and the seconds after the beginning at which an alert fired and was resolved."""
    return [
        (
            one.key,
            round((one.fired - BEGIN) / SECOND, 1),
            None if one.resolved is None else round((one.resolved - BEGIN) / SECOND, 1),
        )
        for one in firings
    ]
