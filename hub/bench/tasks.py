"""No-op tasks and a no-op subscriber, so that benchmarks measure only the hub. Run with `hub worker hub.bench.tasks:tasks`."""

from schemas import Event
from subscribers import subscriber

from ..worker import TaskRegistry

tasks = TaskRegistry()


@tasks.task("bench-noop")
async def noop() -> None:
    """Nothing."""


@subscriber("*", name="bench-nothing")
async def nothing(event: Event) -> None:
    """Receive every event and ignore it."""
