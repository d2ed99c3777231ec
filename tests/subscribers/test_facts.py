"""Facts about events in the same terms for every type."""

from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest

from hub.testing import make_event
from schemas import CATALOGUE, TERMINAL_TYPES, Event
from schemas.events import TaskFailed
from schemas.instruments import INSTRUMENTS
from subscribers import EventError, error_of, metric_name_of, result_of, tags_of, timing_of
from subscribers.metrics import measurements_of
from subscribers.otel.records import record_of
from subscribers.otel.spans import spans_of

ERROR = {"type": "CardError", "message": "declared stolen"}
TIMES: dict[str, Any] = {
    "created_at": "2026-01-01T09:30:00.000Z",
    "ready_at": "2026-01-01T09:30:01.000Z",
    "dispatched_at": "2026-01-01T09:30:02.000Z",
    "started_at": "2026-01-01T09:30:03.500Z",
    "finished_at": "2026-01-01T09:30:10.000Z",
}
IDS = ("order-7", "0/0/1", "01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_every_type_has_facts(event_type: str) -> None:
    event = make_event(event_type)
    assert timing_of(event).at == datetime(2026, 1, 1, 9, 30, 0, 250_000, UTC)
    assert metric_name_of(event) == f"hub.{event_type}"
    tags = tags_of(event)
    assert tags["type"] == event_type
    assert not [value for value in tags.values() if any(one in value for one in IDS)]
    error = error_of(event)
    if CATALOGUE[event_type].severity >= 17 and event_type != "alert.fired":
        assert error is not None
        assert error.type
    if error is not None:
        assert tags["error"] == error.type
        assert tags["error_category"] == error.category


def test_the_times_of_an_end_give_its_durations() -> None:
    timing = timing_of(make_event("task.completed", **TIMES, ran_seconds=None))
    assert (timing.waited_seconds, timing.ran_seconds, timing.total_seconds) == (2.5, 6.5, 10.0)
    assert timing_of(make_event("task.completed", **TIMES, ran_seconds=6.25)).ran_seconds == 6.25


@pytest.mark.parametrize("broken", ["", "soon", "2026-01-01T09:30:00"])
def test_a_time_that_is_missing_or_not_a_time_gives_no_duration(broken: str) -> None:
    event = make_event("task.completed", **{**TIMES, "created_at": broken})
    assert timing_of(event).total_seconds is None
    assert timing_of(event).waited_seconds == 2.5
    assert timing_of(make_event("worker.draining")).total_seconds is None


def test_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    event = make_event("task.completed", **{**TIMES, "finished_at": TIMES["created_at"]}, ran_seconds=None)
    assert timing_of(event).ran_seconds == 0.0


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        ("task.failed", {"kind": "permanent", "error": ERROR}, EventError("CardError", "declared stolen", "failure")),
        ("task.failed", {"kind": "timed_out", "error": ERROR}, EventError("CardError", "declared stolen", "timeout")),
        ("task.failed", {"kind": "lost", "error": ERROR}, EventError("CardError", "declared stolen", "system")),
        ("task.failed", {"kind": "dependency_failed", "error": ERROR}, EventError("CardError", "declared stolen", "dependency")),
        ("task.retry_scheduled", {"cause": "error", "error": ERROR}, EventError("CardError", "declared stolen", "failure")),
        ("task.retry_scheduled", {"cause": "timeout", "error": None}, EventError("AttemptTimedOut", "", "timeout")),
        ("task.retry_scheduled", {"cause": "lost", "error": None}, EventError("WorkerLost", "", "system")),
        ("task.rejected", {"code": "cycle", "reason": "a, b"}, EventError("cycle", "a, b", "rejection")),
        (
            "attempt.timed_out",
            {"timeout_seconds": 2.5},
            EventError("AttemptTimedOut", "the attempt exceeded its timeout of 2.5 s", "timeout"),
        ),
        ("attempt.lease_expired", {"lease_seconds": 10}, EventError("WorkerLost", "no heartbeat for 10 s", "system")),
        ("workflow.failed", {"error": {"type": "TimedOut", "message": "late"}}, EventError("TimedOut", "late", "timeout")),
        ("subscriber.failing", {"error": "no route"}, EventError("SubscriberFailing", "no route", "system")),
        ("task.cancelled", {}, None),
        ("task.skipped", {}, None),
        ("task.completed", {}, None),
    ],
)
def test_an_error_has_a_type_a_message_and_a_category(event_type: str, data: dict[str, Any], expected: EventError | None) -> None:
    assert error_of(make_event(event_type, **data)) == expected


FAILURES = {"permanent": "failure", "exhausted": "failure", "timed_out": "timeout", "lost": "error", "dependency_failed": "skip"}
RESULTS = {
    "task.completed": "success",
    "task.cancelled": "cancellation",
    "task.expired": "timeout",
    "task.skipped": "skip",
    "workflow.completed": "success",
    "workflow.cancelled": "cancellation",
}


def test_every_terminal_event_has_a_result_and_no_other() -> None:
    assert set(FAILURES) == set(get_args(get_type_hints(TaskFailed)["kind"]))
    assert {kind: result_of(make_event("task.failed", kind=kind)) for kind in FAILURES} == FAILURES
    late, failed = ({"type": "TimedOut"}, {"type": "CardError"})
    assert [result_of(make_event("workflow.failed", error=error)) for error in (late, failed)] == ["timeout", "failure"]
    others = {kind: result_of(make_event(kind)) for kind in CATALOGUE if not kind.endswith(".failed")}
    assert {kind: result for kind, result in others.items() if result is not None} == RESULTS
    assert {*RESULTS, "task.failed", "workflow.failed"} == TERMINAL_TYPES


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("attempt.timed_out", {}),
        ("attempt.lease_expired", {}),
        ("attempt.lost", {}),
        ("task.expired", {}),
        ("task.failed", {"kind": "dependency_failed"}),
    ],
)
def test_spans_log_records_and_metrics_have_the_same_error(event_type: str, data: dict[str, Any]) -> None:
    """A measurement, a span and a log record are joined by it."""
    event = make_event(event_type, envelope={"from_state": "running", "to_state": "failed"}, **data)
    error = error_of(event)
    assert error is not None
    spans = [dict(span.attributes).get("error.type", "") for span in spans_of(event)]
    measured = [one.labels[-1] for one in measurements_of(event) if INSTRUMENTS[one.name].labels[-1] == "error_type"]
    assert {*filter(None, spans), *measured, dict(record_of(event).attributes)["error.type"]} == {error.type}
    results = {dict(span.attributes).get("hub.result") for span in spans_of(event)} - {None}
    assert result_of(event) is None or results == {result_of(event)}


def test_tags_say_what_it_is_about_without_ids() -> None:
    event: Event = make_event(
        "task.failed",
        envelope={"subject": "order-8", "namespace": "shop", "taskname": "charge", "from_state": "running", "to_state": "failed"},
        queue="cards",
        key="pay",
        kind="exhausted",
        error=ERROR,
        tags={"customer": "4711"},
    )
    assert tags_of(event) == {
        "type": "task.failed",
        "namespace": "shop",
        "task": "charge",
        "queue": "cards",
        "result": "failed",
        "error": "CardError",
        "error_category": "failure",
    }
