"""A load of chains and diamonds, and the checks at its end."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hub.client import Hub, TaskHandle
from hub.kafka import EVENTS, Cluster, read_all
from schemas import decode_event

CHUNK = 25

#: The short form by default; HUB_KILLS=10 HUB_TASKS=5000 gives the long one.
KILLS = int(os.environ.get("HUB_KILLS", "2"))
TASKS = int(os.environ.get("HUB_TASKS", "400"))
SECONDS = 120 + TASKS / 20


def chain(ms: int) -> dict[str, Any]:
    """Four steps one after the other."""
    steps: dict[str, Any] = {"s0": {"name": "step", "args": {"ms": ms}}}
    for index in range(1, 4):
        steps[f"s{index}"] = {"name": "step", "args": {"ms": ms}, "depends_on": [f"s{index - 1}"]}
    return {"name": "chain", "tasks": steps}


def diamond(ms: int) -> dict[str, Any]:
    """One, two side by side, one."""
    step = {"name": "step", "args": {"ms": ms}}
    return {
        "name": "diamond",
        "tasks": {
            "top": step,
            "left": {**step, "depends_on": ["top"]},
            "right": {**step, "depends_on": ["top"]},
            "bottom": {**step, "depends_on": ["left", "right"]},
        },
    }


class Load:
    """Submits `tasks` tasks as graphs of four, and waits for the end of each."""

    def __init__(self, bootstrap: str, tasks: int, *, ms: int = 20) -> None:
        self.bootstrap = bootstrap
        self.graphs = tasks // 4
        self.ms = ms
        self.handles: list[TaskHandle] = []
        self.connected, self.submitted = asyncio.Event(), asyncio.Event()
        self.ended = 0

    async def run(self, *, timeout_seconds: float) -> None:
        """Submit everything and see every end. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds), Hub(self.bootstrap) as hub:
            self.connected.set()
            for first in range(0, self.graphs, CHUNK):
                graphs = [(chain if index % 2 else diamond)(self.ms) for index in range(first, min(first + CHUNK, self.graphs))]
                self.handles += await hub.submit_many(graphs)
            self.submitted.set()
            for handle in self.handles:
                reply = await handle.outcome()
                assert reply.state == "completed", f"{handle.id}: {reply}"
                self.ended += 1

    @property
    def acknowledged(self) -> list[str]:
        """The ids of every submission that was acknowledged."""
        return [handle.id for handle in self.handles]


async def during(load: Load, harm: Callable[[], Awaitable[None]], *, times: int, timeout_seconds: float, seed: int) -> None:
    """Run the load and do harm so many times at random moments after it is connected."""
    chance = random.Random(seed)
    running = asyncio.create_task(load.run(timeout_seconds=timeout_seconds))
    connected = asyncio.create_task(load.connected.wait())
    try:
        await asyncio.wait([running, connected], return_when=asyncio.FIRST_COMPLETED)
        for _ in range(times):
            await asyncio.wait([running], timeout=chance.uniform(0.05, 0.8))
            await harm()
        await running
    finally:
        running.cancel()
        connected.cancel()
        await asyncio.wait([running, connected])


async def everything_was_delivered(bootstrap: str, partitions: int, written: Path, *, seconds: float = 100) -> None:
    """Promise 6: every event at least once, in order per entity (ignoring repeats), with a stable id."""
    wanted: dict[tuple[int, int], tuple[str, str]] = {}
    for partition in range(partitions):
        async for record in read_all(Cluster.of(bootstrap), EVENTS, partition):
            event = decode_event(record.value, record.headers)
            if event.entity.startswith("task/"):  # The subscriber began at the log's end, before the first task.
                wanted[partition, record.offset] = (event.id, event.entity)
    async with asyncio.timeout(seconds):
        while not wanted.keys() <= (heard := _heard(written)).keys():
            await asyncio.sleep(0.1)
    assert {place: heard[place] for place in wanted} == wanted
    newest: dict[tuple[int, str], int] = {}
    seen: set[tuple[int, int]] = set()
    for line in written.read_text().splitlines():
        number, offset, _, entity, _ = line.split(" ", 4)
        place = (int(number), int(offset))
        if place not in seen:
            seen.add(place)
            assert newest.get((place[0], entity), -1) < place[1], f"{entity} out of order at {place}"
            newest[place[0], entity] = place[1]


def _heard(written: Path) -> dict[tuple[int, int], tuple[str, str]]:
    heard = {}
    for line in written.read_text().splitlines() if written.exists() else ():
        parts = line.split(" ", 4)
        if len(parts) == 5:
            heard[int(parts[0]), int(parts[1])] = (parts[2], parts[3])
    return heard
