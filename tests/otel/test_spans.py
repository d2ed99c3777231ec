"""Spans of a recorded log: a tree per trace, with the facts of the events and nothing else."""

import re
from itertools import pairwise

import pytest

from hub.engine import EngineSettings
from hub.testing import HubInMemory, make_event, make_event_record
from schemas import CATALOGUE, TERMINAL_TYPES, Event, decode_event
from schemas.tracing import span_id_of, trace_id_of
from subscribers.otel.encode import encode_spans
from subscribers.otel.spans import CONSUMER, SERVER, SPAN_TYPES, TaskSpan, spans_of

from .recorded import SECRET, recorded, tasks
from .tree import traces_of, tree_of

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def all_spans() -> list[TaskSpan]:
    return [span for event in recorded() for span in spans_of(event)]


def of_task(task: str) -> list[TaskSpan]:
    return [span for span in all_spans() if dict(span.attributes)["hub.task.id"] == task]


def named(task: str) -> list[tuple[str, int, str | None]]:
    """Name, rounded seconds and error of the spans of a task, in the order of their export."""
    return [(span.name, round((span.end - span.start) / 1e9), span.error) for span in of_task(task)]


def test_the_log_has_an_event_of_most_types_that_end_a_span() -> None:
    assert {event.type for event in recorded()} >= SPAN_TYPES - {
        "attempt.lost",
        "attempt.released",
        "attempt.superseded",
        "workflow.failed",
        "workflow.cancelled",
    }


def test_every_span_has_an_id_of_its_own_and_a_parent_in_its_trace() -> None:
    spans = all_spans()
    assert len({span.id for span in spans}) == len(spans)
    for trace in traces_of(spans).values():
        known = {span.id for span in trace}
        (first,) = [span for span in trace if span.parent is None]
        assert first.kind == SERVER
        assert all(span.parent in known for span in trace if span is not first)
        assert all(linked in known for span in trace for _, linked in span.links)


def test_every_task_has_one_first_span_and_one_run_span() -> None:
    created = {event.subject for event in recorded() if event.type == "task.created"}
    for name in ("task", "run"):
        of_each = [dict(span.attributes)["hub.task.id"] for span in all_spans() if span.name.startswith(f"{name} ")]
        assert sorted(of_each, key=str) == sorted(created)


def test_every_attempt_that_was_dispatched_has_one_span() -> None:
    dispatched = {(event.subject, event.data.attempt) for event in recorded() if event.type == "task.dispatched"}
    attempts = [span for span in all_spans() if span.kind == CONSUMER]
    found = [(dict(span.attributes)["hub.task.id"], dict(span.attributes)["hub.attempt"]) for span in attempts]
    assert sorted(found, key=str) == sorted(dispatched, key=str)


def test_no_span_ends_before_it_starts_or_before_its_task_was_created() -> None:
    created = {span.id: span.start for span in all_spans() if span.kind == SERVER}
    for span in all_spans():
        assert span.start <= span.end
        assert span.parent is None or span.start >= created[span.parent]


def test_the_attempts_of_a_task_follow_each_other_with_their_waits() -> None:
    spans = sorted((span for span in of_task("flaky") if span.kind != SERVER), key=lambda span: (span.start, span.end))
    run = next(span for span in spans if span.name.startswith("run"))
    spans.remove(run)
    assert [span.name.partition(" ")[0] for span in spans] == [
        *("queue", "attempt", "wait"),
        *("queue", "attempt", "wait"),
        *("queue", "attempt"),
    ]
    assert all(before.end == after.start for before, after in pairwise(spans)), "without a gap"
    assert (spans[0].start, spans[-1].end) == (run.start, run.end)


def test_a_failed_attempt_is_an_error_and_a_task_that_recovered_is_not() -> None:
    attempts = [span for span in of_task("flaky") if span.kind == CONSUMER]
    assert [span.error for span in attempts] == ["the bank is busy", "the bank is busy", None]
    assert [dict(span.attributes).get("error.type") for span in attempts] == ["ConnectionError", "ConnectionError", None]
    assert [[linked for _, linked in span.links] for span in attempts] == [[], [attempts[0].id], [attempts[1].id]]
    (run,) = [span for span in of_task("flaky") if span.name == "run flaky"]
    assert (run.error, dict(run.attributes)["hub.result"], dict(run.attributes)["hub.attempt"]) == (None, "success", 3)


@pytest.mark.parametrize(
    ("task", "result", "error"),
    [
        ("added", "success", None),
        ("never", "failure", "Permanent"),
        ("timed-out", "timeout", "AttemptTimedOut"),
        ("total", "timeout", "TimedOut"),
        ("cancelled", "cancellation", None),
        ("expired", "timeout", "Expired"),
        ("order-1", "success", None),
        ("lost", "success", None),
    ],
)
def test_the_run_span_says_how_the_task_ended(task: str, result: str, error: str | None) -> None:
    (run,) = [span for span in of_task(task) if span.name.startswith("run ")]
    attributes = dict(run.attributes)
    assert (attributes["hub.result"], attributes.get("error.type")) == (result, error)
    assert (run.error is not None) == (error is not None)


def test_waits_and_queues_are_as_long_as_the_task_waited() -> None:
    assert ("wait start", 20, None) in named("scheduled")
    assert named("cancelled-early")[1:] == [("wait start", 3, None), ("run add", 3, None)]
    assert named("expired")[1][:2] == ("queue default", 30)
    assert named("total")[1:3] == [("queue default", 0, None), ("attempt sleep", 7, "exceeded its total timeout of 7.0 s")]
    assert [one[:2] for one in named("lost")] == [
        ("task sleep", 0),
        ("queue default", 0),
        ("attempt sleep", 4),
        ("queue default", 27),
        ("attempt sleep", 20),
        ("run sleep", 51),
    ]


def test_steps_are_below_the_first_span_of_their_workflow_also_those_that_were_added_later() -> None:
    (root,) = [span for span in of_task("order-1") if span.kind == SERVER]
    steps = [span for span in all_spans() if span.parent == root.id and span.kind == SERVER]
    assert sorted(str(dict(span.attributes)["hub.step.name"]) for span in steps) == ["charge", "more", "refund", "reserve"]
    assert {span.trace for span in steps} == {root.trace}


def test_a_tree_for_people_has_every_span_once_below_its_parent() -> None:
    (root,) = [span for span in of_task("order-1") if span.kind == SERVER]
    spans = traces_of(all_spans())[root.trace]
    lines = tree_of(spans).splitlines()
    assert len(lines) == len(spans)
    assert lines[0].startswith("task order ")
    assert [line for line in lines if re.match(r"  task flaky \[reserve\] +0\.000 s \|█", line)]
    assert [line for line in lines if re.match(r"    attempt flaky +2\.000 s \|.*\|  ConnectionError$", line)]


def test_replaying_the_log_gives_the_same_bytes() -> None:
    def export(events: list[Event]) -> bytes:
        return b"".join(encode_spans(spans_of(event), {"service.name": "hub"}) for event in events)

    events = [event for event in recorded() if event.type in SPAN_TYPES]
    again = [decode_event(event.value, headers_of(event)) for event in events]
    assert again == events
    assert export(again) == export(events)
    assert len(export(events)) > 10_000


def headers_of(event: Event) -> list[tuple[str, bytes]]:
    """The headers that the event was decoded from."""
    attributes = {
        "type": event.type,
        "id": event.id,
        "source": event.source,
        "subject": event.subject,
        "time": event.time,
        "namespace": event.namespace,
        "taskname": event.taskname,
        "traceparent": event.traceparent,
        "severitynumber": str(event.severitynumber),
    }
    return [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value is not None]


def test_no_span_has_an_argument_or_a_result() -> None:
    assert not [span for span in all_spans() if SECRET in repr(span)]
    assert [event for event in recorded() if SECRET.encode() in event.value], "the log has it"


def test_attributes_are_sorted_and_name_the_task() -> None:
    for span in all_spans():
        names = [name for name, _ in span.attributes]
        assert names == sorted(set(names))
        assert {"hub.namespace", "hub.root_run.id", "hub.run.id", "hub.task.id", "hub.task.name"} <= set(names)


def test_a_task_without_a_sampled_trace_has_no_spans() -> None:
    for flags, count in (("00", 0), ("01", 1), ("02", 0), ("03", 1)):
        event = make_event("task.created", envelope={"traceparent": GIVEN[:-2] + flags})
        assert len(spans_of(event)) == count


def test_a_task_continues_the_trace_of_its_submission() -> None:
    (span,) = spans_of(make_event("task.created", envelope={"traceparent": GIVEN}))
    assert (span.trace, span.parent) == tuple(GIVEN.split("-")[1:3])


@pytest.mark.parametrize("event_type", sorted(CATALOGUE))
def test_every_event_type_gives_spans_or_none(event_type: str) -> None:
    """Also with data of which only the required fields are present."""
    spans = spans_of(make_event(event_type, envelope={"from_state": "running", "to_state": "completed"}))
    assert bool(spans) == (event_type in SPAN_TYPES - {"task.ready", "task.scheduled"})
    assert not TERMINAL_TYPES - SPAN_TYPES


@pytest.mark.parametrize("event_type", ["attempt.released", "attempt.superseded"])
def test_a_dispatch_that_did_not_start_is_a_span_of_its_queue(event_type: str) -> None:
    times = {"ready_at": "2026-01-01T09:30:00Z", "dispatched_at": "2026-01-01T09:30:01Z", "started_at": None}
    envelope = {"time": "2026-01-01T09:30:03Z", "run": 5}
    events = [make_event(event_type, envelope=envelope, dispatch=dispatch, queue="mail", **times) for dispatch in (1, 2)]
    spans = [span for event in events for span in spans_of(event)]
    assert [span.name for span in spans] == ["queue mail"] * 2
    assert [span.id for span in spans] == [span_id_of("dispatch", "order-7", 5, dispatch) for dispatch in (1, 2)]
    assert {(span.end - span.start) / 1e9 for span in spans} == {3.0}
    assert dict(spans[0].attributes)["hub.dispatch.outcome"] == event_type.partition(".")[2]


def test_the_start_of_a_short_attempt_is_that_which_the_worker_measured() -> None:
    def attempt(**data: object) -> tuple[float, float]:
        spans = spans_of(
            make_event("task.completed", envelope={"from_state": "running", "to_state": "completed"}, **times, **data)
        )
        queue, attempt = [next(span for span in spans if span.name.startswith(name)) for name in ("queue", "attempt")]
        assert queue.end == attempt.start
        return (attempt.end - attempt.start) / 1e9, (queue.end - queue.start) / 1e9

    end = "2026-01-01T09:30:02Z"
    times = {"created_at": "2026-01-01T09:30:00Z", "ready_at": "2026-01-01T09:30:00Z", "finished_at": end}
    times["dispatched_at"] = "2026-01-01T09:30:01Z"
    assert attempt(started_at=end, ran_seconds=0.25) == (0.25, 1.75)
    assert attempt(started_at=end, ran_seconds=5.0) == (1.0, 1.0), "not before its dispatch"
    assert attempt(started_at="2026-01-01T09:30:01.5Z", ran_seconds=0.25) == (0.5, 1.5)
    assert attempt(started_at=end, ran_seconds=None) == (0.0, 2.0)


def test_a_time_that_goes_back_after_a_failover_gives_no_negative_duration() -> None:
    event = make_event("task.completed", created_at="2026-01-01T09:30:05Z", finished_at="2026-01-01T09:30:02Z")
    assert all(span.start <= span.end for span in spans_of(event))


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01T09:30:00", ""])
def test_an_invalid_time_is_an_error(time: str) -> None:
    record = make_event_record("task.completed", created_at=time)
    with pytest.raises(ValueError, match=r"time|isoformat"):
        spans_of(decode_event(record.value, record.headers))


async def test_a_text_id_that_is_used_again_after_its_end_has_a_second_trace() -> None:
    async with HubInMemory(tasks, engine=EngineSettings(retention_seconds=5)) as hub:
        for _ in range(2):
            await hub.run("add", {"a": 1, "b": 2}, id="order-7")
            await hub.advance(seconds=70)
        runs = [event.run for event in hub.events_of("order-7", "task.created")]
        traces = traces_of(span for event in hub.events for span in spans_of(event))
    assert list(traces) == [trace_id_of("order-7", run) for run in runs]
    assert [len(spans) for spans in traces.values()] == [4, 4]
