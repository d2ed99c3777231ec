"""Tail sampling decides from single events, and exports the same spans as without it."""

from typing import Any

import pytest

from hub.testing import make_event
from schemas import Event
from subscribers.otel.spans import SERVER, TaskSpan, spans_of
from subscribers.otel.tail import Tail

from .recorded import recorded

NOTHING_ELSE = Tail(slow_seconds=1e9, share=0.0)
ALL = Tail(slow_seconds=1e9, share=1.0)


def exported(tail: Tail) -> list[TaskSpan]:
    return [span for event in recorded() for span in tail.spans_of(event)]


def tasks_of(spans: list[TaskSpan]) -> set[Any]:
    return {dict(span.attributes)["hub.task.id"] for span in spans}


def test_everything_but_waits_is_exported_as_without_it_if_the_share_is_all() -> None:
    live = {span for event in recorded() for span in spans_of(event) if span.name not in ("wait start", "wait dependencies")}
    tail = {span for span in exported(ALL) if span.name not in ("wait start", "wait dependencies")}
    assert tail == live
    assert len(exported(ALL)) == len(set(exported(ALL)))


def test_only_tasks_that_did_not_succeed_at_once_are_exported_without_a_share() -> None:
    spans = exported(NOTHING_ELSE)
    expected = {"flaky", "later", "never", "timed-out", "total", "cancelled", "cancelled-early", "expired", "lost"}
    reserve = {event.subject for event in recorded() if event.type == "task.created" and event.data.key == "reserve"}
    assert tasks_of(spans) == expected | reserve


def test_a_task_is_exported_whole_or_not_at_all() -> None:
    for tail in (NOTHING_ELSE, ALL, Tail(slow_seconds=15, share=0.0)):
        spans = exported(tail)
        anchors = {dict(span.attributes)["hub.task.id"] for span in spans if span.kind == SERVER}
        assert anchors == tasks_of(spans)


def test_slow_tasks_are_exported() -> None:
    more = tasks_of(exported(Tail(slow_seconds=2.5, share=0.0))) - tasks_of(exported(NOTHING_ELSE))
    names = {event.taskname for event in recorded() if event.subject in more}
    assert names == {"sleep", "order"}


def completed(attempt: int = 1, ready: str = "09:30:00") -> Event:
    return make_event(
        "task.completed",
        envelope={"from_state": "running", "to_state": "completed"},
        attempt=attempt,
        created_at="2026-01-01T09:00:00Z",
        ready_at=f"2026-01-01T{ready}Z",
        finished_at="2026-01-01T09:30:05Z",
    )


@pytest.mark.parametrize(
    ("event", "kept"), [(completed(), False), (completed(attempt=2), True), (completed(ready="09:29:50"), True)]
)
def test_how_long_a_task_took_is_counted_from_when_it_became_ready(event: Event, kept: bool) -> None:
    assert Tail(slow_seconds=10, share=0.0).keeps(event) == kept
    assert bool(Tail(slow_seconds=10, share=0.0).spans_of(event)) == kept


def test_a_task_that_is_not_sampled_is_never_exported() -> None:
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    assert not ALL.spans_of(make_event("task.failed", envelope={"traceparent": context, "from_state": "running"}))
