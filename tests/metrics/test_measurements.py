"""What each event of the catalogue says about the instruments."""

import typing
from typing import Any

import pytest

from hub.testing import make_event
from schemas import CATALOGUE, Event
from schemas.events import TaskFailed
from schemas.instruments import INSTRUMENTS
from subscribers.metrics import Measurement, initial_measurements, measurements_of
from subscribers.metrics.measurements import seconds_between

CREATED, READY = "2026-01-01T09:29:00.000Z", "2026-01-01T09:30:00.000Z"
STARTED, ENDED = "2026-01-01T09:30:02.500Z", "2026-01-01T09:30:06.000Z"
OF_ATTEMPT: dict[str, Any] = {"queue": "mail", "ready_at": READY, "started_at": STARTED}
OF_END: dict[str, Any] = {**OF_ATTEMPT, "created_at": CREATED, "finished_at": ENDED}
ALERT = {"rule": "charge-fails", "severity": "critical", "key": "order-7"}
ERROR = {"type": "CardError", "message": "declared stolen"}
CHARGE, MAIL = ("shop", "charge"), ("shop", "charge", "mail")

WAIT = ("hub.queue.wait.duration", ("shop", "mail"), 2.5)
Expected = tuple[str, tuple[str, ...], float]


def of(event_type: str, *, from_state: str | None = None, time: str = ENDED, **data: Any) -> Event:
    return make_event(event_type, envelope={"namespace": "shop", "time": time, "from_state": from_state}, **data)


def run(result: str, error_type: str = "") -> list[Expected]:
    return [
        ("hub.task.results", (*MAIL, result), 1),
        ("hub.task.run.duration", (*MAIL, result, error_type), 66),
    ]


def attempt(outcome: str, seconds: float, error_type: str = "") -> list[Expected]:
    return [
        ("hub.attempts", (*MAIL, outcome), 1),
        ("hub.task.attempt.duration", (*MAIL, outcome, error_type), seconds),
        WAIT,
    ]


#: Per event type: the data, and the measurements besides the count of events.
CASES: dict[str, tuple[dict[str, Any], list[Expected]]] = {
    "task.created": ({"queue": "mail"}, [("hub.task.created", MAIL, 1)]),
    "task.rejected": (
        {"code": "cycle", "report": "task.created"},
        [("hub.task.rejections", ("task.created", "cycle"), 1)],
    ),
    "task.deduplicated": ({}, [("hub.task.deduplications", (), 1)]),
    "task.retry_scheduled": ({"cause": "timeout"}, [("hub.task.retries", (*CHARGE, "timeout"), 1)]),
    "task.completed": ({**OF_END, "ran_seconds": 3.25}, [*run("success"), *attempt("success", 3.25)]),
    "task.failed": ({**OF_END, "kind": "exhausted", "error": ERROR}, run("failure", "CardError")),
    "task.cancelled": (OF_END, [*run("cancellation"), ("hub.task.cancellations", CHARGE, 1)]),
    "task.expired": (OF_END, [*run("timeout", "Expired"), ("hub.task.timeouts", (*CHARGE, "start"), 1)]),
    "task.skipped": (OF_END, run("skip")),
    "attempt.failed": ({**OF_ATTEMPT, "error": ERROR, "ran_seconds": None}, attempt("failure", 3.5, "CardError")),
    "attempt.timed_out": (
        {**OF_ATTEMPT, "timeout_seconds": 3.0},
        [*attempt("timeout", 3.0, "AttemptTimedOut"), ("hub.task.timeouts", (*CHARGE, "attempt"), 1)],
    ),
    "attempt.lease_expired": (OF_ATTEMPT, [("hub.attempts", (*MAIL, "lost"), 1), WAIT]),
    "attempt.lost": ({**OF_ATTEMPT, "started_at": None}, [("hub.attempts", (*MAIL, "lost"), 1)]),
    "attempt.cancelled": (OF_ATTEMPT, attempt("cancellation", 3.5)),
    "attempt.released": ({"queue": "mail"}, [("hub.attempts", (*MAIL, "released"), 1)]),
    "attempt.superseded": ({"queue": "mail"}, [("hub.attempts", (*MAIL, "superseded"), 1)]),
    "attempt.report_rejected": (
        {"code": "stale_token", "report": "attempt.completed"},
        [("hub.attempt.rejections", ("attempt.completed", "stale_token"), 1)],
    ),
    "workflow.completed": (OF_END, [("hub.workflow.run.duration", (*CHARGE, "success", ""), 66)]),
    "workflow.failed": ({**OF_END, "error": ERROR}, [("hub.workflow.run.duration", (*CHARGE, "failure", "CardError"), 66)]),
    "workflow.cancelled": (
        OF_END,
        [("hub.workflow.run.duration", (*CHARGE, "cancellation", ""), 66), ("hub.task.cancellations", CHARGE, 1)],
    ),
    "worker.lost": ({"pool": "gpu"}, [("hub.worker.losses", ("gpu",), 1)]),
    "engine.report_dead_lettered": ({}, [("hub.engine.dead_letters", ("report",), 1)]),
    "engine.timer_dead_lettered": ({}, [("hub.engine.dead_letters", ("timer",), 1)]),
    "alert.fired": (ALERT, [("hub.alert.transitions", ("charge-fails", "critical", "fired"), 1)]),
    "alert.resolved": (ALERT, [("hub.alert.transitions", ("charge-fails", "critical", "resolved"), 1)]),
    "alert.silenced": (ALERT, [("hub.alert.transitions", ("charge-fails", "critical", "silenced"), 1)]),
}
#: Types that are only counted: all others.
COUNTED_ONLY = sorted(CATALOGUE.keys() - CASES.keys())


def measured(event: Event) -> list[Expected]:
    """The measurements besides the count of events."""
    first, *others = measurements_of(event)
    assert first == Measurement("hub.events.published", (event.type,), 1)
    return [(one.name, one.labels, one.value) for one in others]


@pytest.mark.parametrize("event_type", CASES)
def test_an_event_is_measured(event_type: str) -> None:
    data, expected = CASES[event_type]
    assert measured(of(event_type, **data)) == expected


@pytest.mark.parametrize("event_type", COUNTED_ONLY)
def test_other_events_are_only_counted(event_type: str) -> None:
    assert measured(of(event_type)) == []


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_names_labels_and_values_are_those_of_the_catalogue_and_no_label_is_an_id(event_type: str) -> None:
    event = of(event_type, **CASES.get(event_type, ({}, []))[0])
    ids = {event.subject, event.id, event.source, getattr(event.data, "worker", None), getattr(event.data, "token", None)}
    for name, labels, value in measurements_of(event):
        instrument = INSTRUMENTS[name]
        assert instrument.origin == "events"
        assert len(labels) == len(instrument.labels)
        assert value >= 0
        assert instrument.kind == "histogram" or value == 1
        assert not ids & set(labels) - {None}


def test_every_instrument_from_events_is_written_by_an_event() -> None:
    written = {one.name for event_type in CATALOGUE for one in measurements_of(of(event_type, **CASES.get(event_type, ({},))[0]))}
    assert written == {one.name for one in INSTRUMENTS.values() if one.origin == "events"}


def test_a_failure_has_the_result_of_its_kind() -> None:
    kinds = typing.get_args(typing.get_type_hints(TaskFailed)["kind"])
    assert len(kinds) == 5
    results = {kind: measured(of("task.failed", **OF_END, kind=kind, error=ERROR))[0][1][-1] for kind in kinds}
    assert results == {
        "permanent": "failure",
        "exhausted": "failure",
        "timed_out": "timeout",
        "lost": "error",
        "dependency_failed": "skip",
    }


def test_an_attempt_that_the_total_timeout_cuts_off_is_measured_by_the_end_of_the_task() -> None:
    data = {**OF_END, "kind": "timed_out", "error": {"type": "TimedOut"}}
    total = [*run("timeout", "TimedOut"), ("hub.task.timeouts", (*CHARGE, "total"), 1)]
    assert measured(of("task.failed", from_state="running", **data)) == [*total, *attempt("timeout", 3.5, "TimedOut")]
    assert measured(of("task.failed", from_state="retrying", **data)) == total, "the last attempt was measured by its own end"


def test_the_last_attempt_of_a_task_that_timed_out_is_counted_once() -> None:
    failed = of("task.failed", from_state="running", **OF_END, kind="timed_out", error={"type": "AttemptTimedOut"})
    assert measured(failed) == run("timeout", "AttemptTimedOut")


def test_a_workflow_that_exceeded_its_total_timeout() -> None:
    assert measured(of("workflow.failed", **OF_END, error={"type": "TimedOut"})) == [
        ("hub.workflow.run.duration", (*CHARGE, "timeout", "TimedOut"), 66),
        ("hub.task.timeouts", (*CHARGE, "total"), 1),
    ]


def test_the_root_of_a_workflow_is_not_counted_as_a_task() -> None:
    assert measured(of("task.created", queue="mail", steps_total=3)) == []


def test_a_start_that_was_not_reported_before_the_end_is_earlier_by_the_run_time() -> None:
    data = {**OF_END, "started_at": ENDED, "ran_seconds": 1.5}
    wait = next(one for one in measured(of("task.completed", **data)) if one[0] == "hub.queue.wait.duration")
    assert wait[2] == 6.0 - 1.5


def test_without_a_run_time_of_the_worker_the_times_of_the_engine_are_used() -> None:
    assert ("hub.task.attempt.duration", (*MAIL, "success", ""), 3.5) in measured(
        of("task.completed", **OF_END, ran_seconds=None)
    )


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        (READY, STARTED, 2.5),
        (STARTED, READY, 0.0),
        (None, READY, None),
        (READY, None, None),
        ("yesterday", READY, None),
        ("2026-01-01T09:30:00", READY, None),
        ("2026-01-01T10:30:00+01:00", STARTED, 2.5),
    ],
)
def test_seconds_between_two_times(start: str | None, end: str | None, seconds: float | None) -> None:
    assert seconds_between(start, end) == seconds


def test_an_event_without_times_is_counted_and_not_measured() -> None:
    data: dict[str, Any] = {"queue": "mail", "created_at": "yesterday", "finished_at": ENDED, "ran_seconds": None}
    event = of("task.completed", **{**data, "ready_at": None, "started_at": None})
    assert [name for name, _, _ in measured(event)] == ["hub.task.results", "hub.attempts"]


def test_a_new_task_has_results_from_its_creation_on() -> None:
    first = Measurement("hub.task.created", MAIL)
    assert list(initial_measurements(first)) == [
        Measurement("hub.task.results", (*MAIL, result), 0) for result in ("success", "failure", "error", "timeout")
    ]
    assert list(initial_measurements(Measurement("hub.task.results", (*MAIL, "success")))) == []
