"""Tasks that do nothing, and a subscriber that keeps nothing: what remains is the hub. `hub worker hub.bench.tasks:tasks`."""

from schemas import Event
from subscribers import subscriber

from ..worker import TaskRegistry

tasks = TaskRegistry()


@tasks.task("bench-noop")
async def noop() -> None:
    """Nothing."""


@subscriber("*", name="bench-nothing")
async def nothing(event: Event) -> None:
    """Every event, looked at by nobody."""
