"""Linked traces: attempts of long runs, and tasks that were submitted without waiting for them."""

import asyncio

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hub import TaskContext, TaskRegistry, Workflow
from hub.engine import EngineSettings
from hub.testing import HubInMemory
from schemas import Event
from schemas.tracing import continued_trace_id, parse_traceparent, span_id_of, trace_id_of
from subscribers.notices import notice_of
from subscribers.otel.encode import encode_spans
from subscribers.otel.records import record_of
from subscribers.otel.spans import CONSUMER, PRODUCER, SERVER, TaskSpan, spans_of
from subscribers.otel.tail import Tail

from .tree import traces_of

HOUR = 3600.0
tasks = TaskRegistry()


@tasks.task("patient", retry={"max_attempts": 3, "backoff": [5400.0], "jitter": 0})
async def patient(ctx: TaskContext) -> str | None:
    await asyncio.sleep(1)
    if ctx.attempt < 3:
        raise ConnectionError(str(ctx.traceparent))
    return ctx.traceparent


@tasks.task("note")
async def note(ctx: TaskContext) -> str | None:
    return ctx.traceparent


def long_runs(seconds: float = HOUR) -> HubInMemory:
    return HubInMemory(tasks, engine=EngineSettings(trace_max_age_seconds=seconds))


def spans_in(events: list[Event], kind: int | None = None) -> list[TaskSpan]:
    return [span for event in events for span in spans_of(event) if kind in (None, span.kind)]


async def test_an_attempt_that_begins_after_the_maximum_age_is_in_a_linked_trace_which_its_handler_knows() -> None:
    async with long_runs() as hub:
        task = await hub.submit("patient", id="order-7")
        await hub.advance(seconds=3 * HOUR + 60)
        contexts = [event.data.error.message for event in hub.events_of("order-7", "attempt.failed")]
        contexts.append(await task.result())
        events = hub.events_of("order-7")
    spans, run = spans_in(events), events[0].run
    base, anchor = trace_id_of("order-7", run), span_id_of("task", "order-7", run)
    expected = [continued_trace_id(base, "order-7", period) for period in (0, 1, 3)]
    attempts = [span for span in spans if span.kind == CONSUMER]
    assert [(span.trace, span.id) for span in attempts] == [found[:2] for found in map(parse_traceparent, contexts) if found]
    assert [span.trace for span in attempts] == expected
    assert [span.parent for span in attempts] == [anchor, None, None]
    assert [span.links for span in attempts] == [(), ((base, anchor),), ((base, anchor),)]
    queues = [span for span in spans if span.name.startswith("queue ")]
    assert [span.links for span in queues] == [(), *(((span.trace, span.id),) for span in attempts[1:])]
    assert {span.trace for span in spans if span.kind != CONSUMER} == {base}
    assert {dict(span.attributes)["hub.root_run.id"] for span in spans} == {"order-7"}
    assert len({span.id for span in spans}) == len(spans)


async def test_log_records_and_notices_of_an_attempt_are_in_its_trace() -> None:
    async with long_runs() as hub:
        await hub.submit("patient", id="order-7")
        await hub.advance(seconds=3 * HOUR + 60)
        events = hub.events_of("order-7")
    attempts = {span.id: span.trace for span in spans_in(events, CONSUMER)}
    started = [event for event in events if event.type in ("task.dispatched", "task.started", "attempt.started")]
    of_attempts = [record_of(event) for event in [*started, *(one for one in events if one.type == "attempt.failed")]]
    assert len(of_attempts) == 8
    assert all(record.trace == attempts[str(record.span)] for record in of_attempts)
    failures = [notice_of(event).trace for event in events if event.type == "attempt.failed"]
    assert [(found.span, found.trace) for found in failures if found] == list(attempts.items())[:2]


async def test_the_age_of_a_step_is_that_of_its_workflow_and_steps_of_a_period_share_a_trace() -> None:
    async with long_runs() as hub:
        workflow = Workflow("order", id="order-1").step("early", "note").step("late", "note", start_after=1.5 * HOUR)
        await hub.submit(workflow.step("later", "note", after=["late"], start_after=60.0))
        await hub.advance(seconds=2 * HOUR - 60)
        events = hub.events
    attempts = {dict(span.attributes)["hub.task.id"]: span for span in spans_in(events, CONSUMER)}
    keys = {event.data.key: attempts[event.subject].trace for event in events if event.type == "task.created" and event.data.key}
    assert keys["late"] == keys["later"] == continued_trace_id(keys["early"], "order-1", 1) != keys["early"]
    assert all(event.data.trace_period == 0 for event in events if event.type == "workflow.completed")


@pytest.mark.parametrize("seconds", [0.0, 86_400.0])
async def test_without_an_age_or_below_it_all_spans_are_in_one_trace(seconds: float) -> None:
    async with long_runs(seconds) as hub:
        await hub.submit("patient", id="order-7")
        await hub.advance(seconds=3 * HOUR + 60)
        spans = spans_in(hub.events_of("order-7"))
    assert len(traces_of(spans)) == 1
    assert not [span for span in spans if any(trace != span.trace for trace, _ in span.links)]


async def test_the_trace_of_an_attempt_does_not_depend_on_the_present_setting() -> None:
    """The engine decides at the dispatch; a later event of the attempt repeats what it decided."""
    async with long_runs(60) as hub:
        await hub.submit("note", id="scheduled", start_after=90)
        await hub.advance(seconds=100)
        (dispatched,), (completed,) = hub.events_of("scheduled", "task.dispatched"), hub.events_of("scheduled", "task.completed")
    assert dispatched.data.trace_period == completed.data.trace_period == 1
    assert b"trace_period" in completed.value


# Tasks that another task submitted


async def submitted_by_another(*, reply: bool, sample: float = 1.0) -> list[Event]:
    """The events of a task "parent", whose handler submits the task "child"."""
    registry = TaskRegistry()

    @registry.task("parent")
    async def parent(ctx: TaskContext) -> None:
        await hub.submit("child", id="child", parent_id=ctx.task_id, reply=reply)

    @registry.task("child", retry={"max_attempts": 2, "backoff": [1]})
    async def child(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise ConnectionError

    async with HubInMemory(registry, engine=EngineSettings(trace_sample=sample)) as hub:
        await hub.submit("parent", id="parent")
        await hub.advance(seconds=10)
        return hub.events


def of(task: str, spans: list[TaskSpan]) -> list[TaskSpan]:
    return [span for span in spans if dict(span.attributes)["hub.task.id"] == task]


async def test_a_task_whose_submitter_can_wait_for_it_is_in_the_trace_of_its_submitter() -> None:
    spans = spans_in(await submitted_by_another(reply=True))
    (attempt,) = [span for span in of("parent", spans) if span.kind == CONSUMER]
    (anchor,) = [span for span in of("child", spans) if span.kind == SERVER]
    assert (anchor.trace, anchor.parent, anchor.links) == (attempt.trace, attempt.id, ())
    assert len(traces_of(spans)) == 1


async def test_a_task_that_is_submitted_without_a_reply_has_a_trace_that_is_linked_both_ways_with_its_submission() -> None:
    spans = spans_in(await submitted_by_another(reply=False))
    (attempt,) = [span for span in of("parent", spans) if span.kind == CONSUMER]
    (submit,) = [span for span in spans if span.kind == PRODUCER]
    (anchor,) = [span for span in of("child", spans) if span.kind == SERVER]
    assert (submit.name, submit.trace, submit.parent) == ("submit child", attempt.trace, attempt.id)
    assert (submit.links, anchor.links) == (((anchor.trace, anchor.id),), ((submit.trace, submit.id),))
    assert (anchor.parent, anchor.trace != submit.trace) == (None, True)
    assert {span.trace for span in of("child", spans) if span is not submit} == {anchor.trace}
    assert dict(anchor.attributes)["hub.parent.id"] == "parent"


async def test_tail_sampling_exports_the_same_linked_spans() -> None:
    events = await submitted_by_another(reply=False)
    tail = [span for event in events for span in Tail(slow_seconds=1e9, share=0.0).spans_of(event)]
    assert set(tail) == set(of("child", spans_in(events)))


async def test_the_linked_trace_has_the_sampling_decision_of_the_submitter() -> None:
    events = await submitted_by_another(reply=False, sample=0.0)
    assert {event.subject for event in events if event.type == "task.completed"} == {"parent", "child"}
    assert not spans_in(events)
    (created,) = [event for event in events if event.type == "task.created" and event.subject == "child"]
    assert created.traceparent == f"00-{trace_id_of('child', created.run)}-{span_id_of('task', 'child', created.run)}-00"


async def test_links_to_other_traces_are_encoded_and_replayed_byte_by_byte() -> None:
    events = await submitted_by_another(reply=False)
    encoded = encode_spans(spans_in(events), {"service.name": "hub"})
    assert encode_spans(spans_in(events), {"service.name": "hub"}) == encoded
    request = ExportTraceServiceRequest.FromString(encoded)
    found = {span.name: span for span in request.resource_spans[0].scope_spans[0].spans}
    (there,), (back,) = found["submit child"].links, found["task child"].links
    assert (there.trace_id, there.span_id) == (found["task child"].trace_id, found["task child"].span_id)
    assert (back.trace_id, back.span_id) == (found["submit child"].trace_id, found["submit child"].span_id)
