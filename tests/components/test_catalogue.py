"""Guarantee 8: a running hub emits every event type in the catalogue, and no other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import json

from hub import Permanent, TaskContext, TaskRegistry
from hub.core.time.timers import TIMERS
from hub.engine.over_tcp import TcpBroker
from hub.engine.ports import DiskSpace
from hub.kafka import EVENTS, INTAKE, Cluster, Outgoing, Sender, inbox_of, partition_of, read_all
from hub.verify import verify
from schemas import CATALOGUE, OBSERVED_KINDS, Event, decode_event, step_id
from schemas.json_schema import example_of_struct

from .running import PARTITIONS, Running, running, until

tasks = TaskRegistry()


@tasks.task("works")
async def works(ctx: TaskContext) -> None:
    ctx.progress(50)
    await asyncio.sleep(0.02)


@tasks.task("fails")
async def fails() -> None:
    raise Permanent("never")


@tasks.task("fails-once")
async def fails_once(ctx: TaskContext) -> None:
    await asyncio.sleep(0.02)
    if ctx.attempt == 1:
        raise RuntimeError("the first time")


@tasks.task("sleeps")
async def sleeps() -> None:
    await asyncio.sleep(60)


class Script:
    """A worker that says what the test wants said: it registers, and reports on what is dispatched to it."""

    def __init__(self, world: Running, sender: Sender, name: str, task: str, *, lease_seconds: float) -> None:
        self.world, self.sender, self.name, self.task, self.lease_seconds = world, sender, name, task, lease_seconds

    async def put(self, kind: str, value: dict[str, Any], partition: int) -> None:
        headers = [("ce_type", kind.encode()), ("ce_source", b"/script"), ("ce_id", kind.encode() + self.name.encode())]
        await self.sender.send(Outgoing(INTAKE, partition, self.name.encode(), json.encode(value), headers))

    async def register(self) -> None:
        about = {"incarnation": self.name, "pool": "default", "inbox": inbox_of(self.name), "queues": ["default"]}
        rest = {"definitions": [{"name": self.task}], "slots": 5, "credit": 5, "lease_seconds": self.lease_seconds}
        for partition in range(PARTITIONS):
            await self.put("worker.registered", {**about, **rest}, partition)

    async def report(self, kind: str, event: Event, **more: Any) -> None:
        data = event.data
        about = {
            "task": event.subject,
            "root": event.rootid,
            "attempt": data.attempt,
            "dispatch": data.dispatch,
            "token": data.token,
        }
        partition = partition_of(event.rootid or "", PARTITIONS)
        await self.put(kind, {**about, "incarnation": self.name, "number": 1, **more}, partition)


async def insist(act: Callable[[], Awaitable[None]], happened: Callable[[], Awaitable[bool]]) -> None:
    """Acts again until it had its effect: on a stalled machine a lease may run out between two steps of a script."""
    async with asyncio.timeout(60):
        while not await happened():
            await act()
            await asyncio.sleep(0.2)


async def seen(bootstrap: str) -> list[Event]:
    """Every event so far."""
    return [
        decode_event(record.value, record.headers)
        for partition in range(PARTITIONS)
        async for record in read_all(Cluster.of(bootstrap), EVENTS, partition)
    ]


async def almost_full(broker: TcpBroker) -> DiskSpace:
    return DiskSpace(usable_bytes=1 << 30, total_bytes=100 << 30)


def mistaken(*_: Any) -> None:
    raise ZeroDivisionError("a mistake of ours")


async def test_every_type_in_the_catalogue_is_emitted_by_a_running_hub(
    empty_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.housekeeping.STORAGE_SECONDS", 0.1)
    async with running(empty_bootstrap, tasks, lease_seconds=3.0) as world:
        hub = world.hub
        sender = Sender(Cluster.of(empty_bootstrap))
        await sender.start()

        async def has(kind: str, subject: str | None = None) -> bool:
            events = await seen(empty_bootstrap)
            return any(event.type == kind and subject in (None, event.subject) for event in events)

        async def dispatched(task: str) -> Event:
            await until(lambda: has("task.dispatched", task))
            return [event for event in await seen(empty_bootstrap) if (event.type, event.subject) == ("task.dispatched", task)][
                -1
            ]

        # Ordinary work: the ways a task waits, runs and ends.
        ordinary = [
            await hub.submit("works", id="plain"),
            await hub.submit("works", id="delayed", start_after=0.1),
            await hub.submit("fails", id="broken"),
            await hub.submit("fails-once", id="again", retry={"backoff": [0.05]}),
            await hub.submit("works", id="careful", delivery="at_most_once"),
            await hub.submit("sleeps", id="hurried", timeouts={"attempt": 0.2}, retry={"max_attempts": 1}),
            await hub.submit("nobody", id="late", timeouts={"start": 0.2}),
            await hub.submit(
                "works",
                id="flow",
                tasks={
                    "a": {"name": "works"},
                    "b": {"name": "works", "depends_on": ["a"]},
                    "c": {"name": "works", "depends_on": ["a"]},
                    "d": {"name": "works", "depends_on": ["b", "c"]},
                    "slow": {"name": "works", "start_after": 0.5},
                    "e": {"name": "works", "depends_on": ["slow", "a"]},
                    "never": {"name": "works", "depends_on": [{"task": "a", "on": "failure"}]},
                },
            ),
            await hub.submit("works", id="bad-flow", tasks={"a": {"name": "fails"}, "b": {"name": "works", "depends_on": ["a"]}}),
        ]
        await hub.submit("works", root_id="flow", key="more", depends_on=["slow"])
        await hub.submit("works", id="plain")  # deduplicated
        await hub.submit("works", id="plain", args={"other": 1})  # rejected
        sleeper = await hub.submit("sleeps", id="sleeper")
        flow = await hub.submit(
            "works", id="stopped-flow", tasks={"a": {"name": "sleeps"}, "b": {"name": "works", "depends_on": ["a"]}}
        )
        await until(lambda: has("task.started", "sleeper"))
        await until(lambda: has("task.started", step_id("stopped-flow", "a")))
        await sleeper.cancel("enough")
        await flow.cancel("enough")
        for handle in [*ordinary, sleeper, flow]:
            await handle.outcome(timeout_seconds=60)

        # What only a misbehaving worker causes.
        silent = Script(world, sender, "silent", "for-silent", lease_seconds=2.0)
        await silent.register()
        await hub.submit("for-silent", id="unheard")

        async def begins() -> None:
            await silent.register()
            await silent.report("attempt.started", await dispatched("unheard"))

        await insist(begins, lambda: has("task.started", "unheard"))
        await until(lambda: has("attempt.lease_expired", "unheard"))

        slow = Script(world, sender, "slow", "for-slow", lease_seconds=3.0)
        await slow.register()
        await hub.submit("for-slow", id="unstarted")
        first = await dispatched("unstarted")
        await insist(slow.register, lambda: has("attempt.superseded", "unstarted"))  # alive, but it does not start what it has
        await slow.report("attempt.started", first)  # too late: rejected

        async def gives_back() -> None:
            await slow.register()
            await slow.report("attempt.released", await dispatched("unstarted"))

        await insist(gives_back, lambda: has("attempt.released", "unstarted"))

        async def dies() -> None:
            await slow.register()
            await asyncio.sleep(0.2)  # it is given the task again
            for partition in range(PARTITIONS):
                await slow.put("worker.lost", {"incarnation": "slow"}, partition)

        await insist(dies, lambda: has("attempt.lost", "unstarted"))

        # What only a careless client causes.
        astray = (partition_of("astray", PARTITIONS) + 1) % PARTITIONS
        await silent.put("task.created", {"name": "works", "id": "astray"}, astray)
        await silent.put("task.exploded", {}, 0)
        await hub.deprecate("works", "1", reason="to be seen")
        await until(lambda: has("task.completed", "astray"))
        for task in ("unheard", "unstarted"):
            await hub.cancel(task)
        await until(lambda: has("task.cancelled", "unheard"))
        await until(lambda: has("task.cancelled", "unstarted"))

        # What only a disk that fills up causes, and a mistake in the engine.
        monkeypatch.setattr(TcpBroker, "disk_space", almost_full)
        await until(lambda: has("engine.storage_changed"))
        monkeypatch.setitem(TIMERS, "expire", mistaken)
        await hub.submit("nobody", id="unlucky", timeouts={"start": 0.2})
        await until(lambda: has("engine.timer_dead_lettered"))
        await hub.cancel("unlucky")
        await until(lambda: has("task.cancelled", "unlucky"))

        # What other processes observe.
        for row in CATALOGUE.values():
            if row.entity in OBSERVED_KINDS:
                entity = f"{row.entity}/seen"
                about = {"entity": entity, "event": row.type, "data": example_of_struct(row.data)}
                await silent.put("event.observed", about, partition_of("seen", PARTITIONS))

        await world.workers[0].stop()
        await until(lambda: has("worker.stopped"))
        for engine in world.engines:
            await engine.stop()
        await sender.stop()
        emitted = {event.type for event in await seen(empty_bootstrap)}
        assert emitted == set(CATALOGUE), f"never emitted: {sorted(set(CATALOGUE) - emitted)}"
        report = await verify(Cluster.of(empty_bootstrap), require_all_ended=True)
        assert report.ok, report.render()
