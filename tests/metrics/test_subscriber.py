"""The subscriber `metrics`: it records events through `ctx.metrics`; the number of series does not depend on that of tasks."""

import logging
import time
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from hub.metrics import MetricsSnapshot, Registry
from hub.metrics.plugins import PluginMetrics
from hub.metrics.prometheus import text
from hub.testing import HubInMemory, make_event, make_submission
from schemas import Event
from schemas.tracing import trace_id_of
from subscribers import Meta, SubscriberContext
from subscribers.metrics import EventRecorder, MetricsSettings, MetricsSubscriber
from tests.testing.app import tasks

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
RUN = "hub.task.run.duration"


def recorder(registry: Registry, **options: Any) -> EventRecorder:
    return EventRecorder(PluginMetrics(registry, "metrics"), **options)


def context(registry: Registry, subscriber: str = "metrics") -> SubscriberContext:
    return SubscriberContext(subscriber, logging.getLogger(subscriber), metrics=PluginMetrics(registry, subscriber))


def series_of(snapshot: MetricsSnapshot) -> int:
    return sum(len(one.points) for one in snapshot.instruments)


def exemplars(registry: Registry, name: str) -> list[str]:
    samples = registry.collect().instrument(name)
    assert samples is not None
    return [one.trace_id for point in samples.points for one in point.exemplars]


async def test_the_tasks_of_a_hub_are_measured() -> None:
    registry = Registry()
    async with HubInMemory(tasks) as hub:
        handles = await hub.submit_many([make_submission("add", args={"a": n, "b": 1}) for n in range(50)])
        for handle in handles:
            await handle.result()
        await hub.submit("flaky")
        await hub.advance(seconds=30)
        each = recorder(registry)
        for event in hub.events:
            each.record(event)
    snapshot = registry.collect()
    labels = {"namespace": "default", "task": "add", "queue": "default"}
    assert snapshot.value("hub.task.created", **labels) == 50
    assert snapshot.value("hub.task.results", **labels, result="success") == 50
    assert snapshot.value("hub.attempts", **labels, outcome="success") == 50
    flaky = {**labels, "task": "flaky"}
    assert snapshot.value("hub.attempts", **flaky, outcome="failure") == 2
    assert snapshot.value("hub.task.retries", namespace="default", task="flaky", reason="error") == 2
    assert snapshot.value(RUN, **flaky, result="success", error_type="") > 10, "two backoffs of 10 s, with jitter"
    assert snapshot.value("hub.queue.wait.duration", namespace="default", queue="default") < 5, "backoff is not a wait"
    wait = snapshot.instrument("hub.queue.wait.duration")
    assert wait is not None
    assert {point.labels[1]: point.count for point in wait.points} == {"default": 53}


@cache
def lifecycle(task: int, queue: int, error: int) -> list[Event]:
    """The events of a task that was retried."""
    envelope = {"taskname": f"task-{task}"}
    start = {"queue": f"queue-{queue}", "ready_at": "2026-01-01T09:30:00Z", "started_at": "2026-01-01T09:30:01Z"}
    end = {**start, "created_at": "2026-01-01T09:29:00Z", "finished_at": "2026-01-01T09:30:02Z"}
    return [
        make_event("task.created", envelope=envelope, queue=f"queue-{queue}"),
        make_event("attempt.failed", envelope=envelope, **start, error={"type": f"Error{error}"}),
        make_event("task.completed", envelope=envelope, **end),
    ]


def with_ids(event: Event, number: int) -> Event:
    """The event of another task and another worker."""
    data = event.data if not hasattr(event.data, "worker") else replace(event.data, worker=f"worker-{number}")
    return event._replace(subject=f"order-{number}", id=f"0/{number}/1", run=number, source=f"/hub/{number}", data=data)


def test_ten_thousand_tasks_with_ids_of_their_own_have_a_bounded_number_of_series() -> None:
    registry = Registry({"role": "delivery", "process": "delivery"})
    each, counts, seconds = recorder(registry), [], 0.0
    for number in range(10_000):
        events = [with_ids(event, number) for event in lifecycle(number % 20, number % 3, number % 4)]
        began = time.thread_time()
        for event in events:
            each.record(event)
        seconds += time.thread_time() - began
        if number in (4_999, 9_999):
            counts.append(series_of(registry.collect()))
    snapshot = registry.collect()
    page = text([snapshot])
    about = f"{counts[-1]} series, {len(page.splitlines())} lines of text, {len(page) / 1024:.0f} KiB"
    print(f"10,000 tasks of 20 names in 3 queues: {about}; {seconds / 30_000 * 1e6:.1f} us of CPU time per event")
    assert counts[0] == counts[1], "the second half added none"
    assert counts[-1] < 1_000
    results = snapshot.instrument("hub.task.results")
    assert results is not None
    assert sum(point.value for point in results.points) == 10_000
    assert "order-" not in page
    assert "worker-" not in page


def test_names_that_never_repeat_are_bounded_too() -> None:
    registry = Registry()
    each = recorder(registry, kept_series_max=50)
    event = make_event("task.created")
    for number in range(1_200):
        each.record(event._replace(taskname=f"task-{number}"))
    snapshot = registry.collect()
    created = snapshot.instrument("hub.task.created")
    assert created is not None
    assert len(created.points) == 1_001
    assert sum(point.value for point in created.points) == 1_200
    assert snapshot.value("hub.metrics.series.overflow", instrument="hub.task.created") > 0


def test_a_result_that_has_not_occurred_is_zero() -> None:
    registry = Registry()
    recorder(registry).record(make_event("task.created", queue="mail"))
    samples = registry.collect().instrument("hub.task.results")
    assert samples is not None
    assert {point.labels[-1]: point.value for point in samples.points} == dict.fromkeys(
        ("success", "failure", "error", "timeout"), 0
    )


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [(f"{TRACEPARENT}01", ["0af7651916cd43dd8448eb211c80319c"]), (f"{TRACEPARENT}00", []), (None, [trace_id_of("order-7", 42)])],
)
def test_durations_have_the_trace_of_their_task_if_it_is_sampled(traceparent: str | None, expected: list[str]) -> None:
    event = make_event("task.completed", envelope={"traceparent": traceparent, "run": 42})
    with_exemplars, without = Registry(), Registry()
    recorder(with_exemplars).record(event)
    recorder(without, exemplars=False).record(event)
    assert exemplars(with_exemplars, RUN) == expected
    assert exemplars(without, RUN) == []


async def test_replayed_events_do_not_count() -> None:
    registry = Registry()
    metrics = MetricsSubscriber(MetricsSettings())
    await metrics.open(context(registry))
    events = [make_event("task.completed")] * 2
    await metrics.count(events, [Meta(events[0], 0, 1), Meta(events[1], 0, 2, replay=True)])
    assert registry.collect().value("hub.events.published", type="task.completed") == 1
    assert (metrics.delivery.replay, metrics.delivery.max_event_age) == ("skip", 3600)


async def test_a_second_subscriber_of_the_same_kind_does_not_open() -> None:
    registry = Registry()
    await MetricsSubscriber(MetricsSettings()).open(context(registry))
    await MetricsSubscriber(MetricsSettings()).open(context(registry))
    with pytest.raises(ValueError, match="it is written by metrics; if metrics-2 wrote it as well, it would be counted twice"):
        await MetricsSubscriber(MetricsSettings()).open(context(registry, "metrics-2"))


async def test_exemplars_can_be_switched_off() -> None:
    registry = Registry()
    metrics = MetricsSubscriber(MetricsSettings(exemplars=False))
    await metrics.open(context(registry))
    event = make_event("task.completed")
    await metrics.count([event], [Meta(event, 0, 1)])
    assert exemplars(registry, RUN) == []
