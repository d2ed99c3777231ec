"""Random schedules of a hub in memory: tasks of every kind, cancels, a disconnected worker, jumps of time. Every task ends,
and the checker runs at the end."""

import random
from typing import Any

import pytest

from hub import TaskHandle, WorkerSettings, Workflow
from hub.testing import HubInMemory, RecordingSubscriber
from schemas import TERMINAL_STATES
from tests.testing.app import tasks

STEPS = 40
MINUTES_MAX = 20
NAMES: dict[str, dict[str, Any]] = {
    "add": {"a": 1, "b": 2},
    "double": {"a": 2},
    "flaky": {},
    "later": {},
    "never": {},
    "sleep": {"seconds": 7},
}


class Day:
    """What may happen to `hub`, in an order that `seed` decides."""

    def __init__(self, hub: HubInMemory, seed: int) -> None:
        self.hub, self.random = hub, random.Random(seed)
        self.handles: list[TaskHandle] = []

    async def one(self) -> None:
        """One thing that happens."""
        await self.random.choice(
            [self.submit, self.submit, self.submit_graph, self.cancel, self.cut, self.restore, self.advance]
        )()

    async def submit(self) -> None:
        name = self.random.choice(list(NAMES))
        options: list[dict[str, Any]] = [
            {}, {"start_after": 30}, {"timeouts": {"attempt": 3}}, {"delivery": "at_most_once"}, {"not_start_after": 5},
        ]  # fmt: skip
        self.handles.append(await self.hub.submit(name, NAMES[name], **self.random.choice(options)))

    async def submit_graph(self) -> None:
        graph = Workflow("graph")
        for number in range(self.random.randrange(1, 5)):
            name = self.random.choice(list(NAMES))
            graph.step(f"n{number}", name, NAMES[name], after=[f"n{number - 1}"] if number % 2 else [])
        self.handles.append(await self.hub.submit(graph))

    async def cancel(self) -> None:
        if self.handles:
            await self.random.choice(self.handles).cancel()

    async def cut(self) -> None:
        self.hub.cut_worker()

    async def restore(self) -> None:
        self.hub.restore_worker()

    async def advance(self) -> None:
        await self.hub.advance(seconds=self.random.choice([0, 0.01, 1, 3, 12]))

    @property
    def over(self) -> bool:
        """Whether every task has ended."""
        return all(self.hub.events_of(handle)[-1].to_state in TERMINAL_STATES for handle in self.handles)


@pytest.mark.parametrize("seed", range(8))
async def test_every_task_of_a_random_day_ends_and_the_log_keeps_its_promises(seed: int) -> None:
    worker = WorkerSettings(slots=1 + seed % 4, lease_seconds=10)
    async with HubInMemory(tasks, partitions=1 + seed % 3, worker=worker) as hub:
        day, recorded, before = Day(hub, seed), await hub.attach(RecordingSubscriber), len(hub.events)
        for _ in range(STEPS):
            await day.one()
        hub.restore_worker()
        for _ in range(MINUTES_MAX):
            await hub.advance(minutes=1)
            if day.over:
                break
        assert {(await handle.outcome()).kind for handle in day.handles} == {"ended"}
        assert recorded.counters.delivered == len(hub.events) - before
