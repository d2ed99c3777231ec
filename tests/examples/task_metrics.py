"""Metrics of a subscriber's own: counts and durations of tasks. They are on the hub's metrics page, and pushed with its metrics.

```toml
[[subscribers]]
use = "task_metrics:TaskMetrics"
settings = { bounds = [0.1, 1, 10, 60] }
```
"""

from schemas import Event
from subscribers import Delivery, Subscriber, SubscriberContext, SubscriberSettings, on, tags_of, timing_of


class TaskMetricsSettings(SubscriberSettings):
    """`bounds`: upper limits of the buckets of durations, in seconds, ascending."""

    bounds: tuple[float, ...] = (0.1, 1.0, 10.0, 60.0, 600.0)


class TaskMetrics(Subscriber[TaskMetricsSettings]):
    """Counts ended tasks by result, and records how long they waited and ran. Replayed events are not counted again."""

    name = "task-metrics"
    delivery = Delivery(replay="skip")

    async def open(self, ctx: SubscriberContext) -> None:
        """Keep the instruments of this subscriber."""
        self._metrics = ctx.metrics

    @on("task.completed", "task.failed", "task.cancelled")
    async def ended(self, event: Event) -> None:
        """Record one task. The labels are tags with few values: names and results, no ids."""
        tags, timing = tags_of(event), timing_of(event)
        task = tags.get("task", "")
        self._metrics.counter("app.tasks.ended", task=task, result=tags.get("result", "")).add()
        for name, seconds in (("app.tasks.waited", timing.waited_seconds), ("app.tasks.ran", timing.ran_seconds)):
            if seconds is not None:
                self._metrics.histogram(name, unit="s", bounds=self.settings.bounds, task=task).record(seconds)
