"""Metrics of one's own: counts, and distributions of times."""

import pytest

from hub import TaskRegistry
from hub.testing import HubInMemory, SubscriberContract, SubscriberHarness

from .task_metrics import TaskMetrics

tasks = TaskRegistry()


@tasks.task("charge")
async def charge() -> str:
    return "paid"


async def test_tasks_are_counted_by_name_and_result_and_replays_are_not() -> None:
    async with SubscriberHarness(TaskMetrics) as harness:
        for event, state, replay in (("completed", "completed", False), ("failed", "failed", False), ("failed", "failed", True)):
            envelope = {"taskname": "charge", "to_state": state}
            await harness.feed(f"task.{event}", envelope=envelope, replay=replay)
        assert harness.metric("app.tasks.ended") == {("completed", "charge"): 1, ("failed", "charge"): 1}


async def test_the_time_that_tasks_waited_and_ran_is_a_distribution() -> None:
    async with HubInMemory(tasks) as hub:
        attached = await hub.attach(TaskMetrics, settings={"bounds": [1, 60]})
        for _ in range(3):
            await hub.run("charge")
        await hub.settle()
        for name in ("app.tasks.waited", "app.tasks.ran"):
            samples = attached.registry.collect().instrument(name)
            assert samples is not None
            assert (samples.labels, samples.bounds) == (("subscriber", "task"), (1.0, 60.0))
            assert [(point.labels, point.counts) for point in samples.points] == [(("task-metrics", "charge"), (3, 0, 0))]
            assert samples.points[0].value == pytest.approx(0, abs=1)


class TestTaskMetrics(SubscriberContract):
    """It has no destination that could be away."""

    plugin = TaskMetrics
    delivers = True
