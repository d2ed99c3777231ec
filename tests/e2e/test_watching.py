"""Who watches events while the broker is killed: they continue after the last event, without a gap or a repetition."""

import asyncio
import json
import sys
from pathlib import Path

from hub import Hub, Workflow
from hub.kafka import EVENTS, Cluster, KafkaTransport
from schemas import Event, decode_event
from tests.components.running import until

from .processes import ROOT, Installation

HELD = Workflow("watched").step("first", "step").step("held", "held").step("last", "step", after=["held"])
END = "workflow.completed"


Numbered = tuple[str, int]
"""What identifies an event within a run: its subject and sequence."""


async def stored(bootstrap: str, root: str) -> list[Numbered]:
    """The events of a workflow on the log."""
    records = KafkaTransport(Cluster.of(bootstrap)).read_all(EVENTS, 0)
    events = [decode_event(record.value, record.headers) async for record in records]
    return [number(event) for event in events if event.rootid == root]


def number(event: Event) -> Numbered:
    """What identifies an event."""
    return event.subject, event.sequence


async def test_who_watches_a_workflow_sees_each_event_once_while_the_broker_restarts(tmp_path: Path) -> None:
    async with Installation(tmp_path) as installation:
        broker = await installation.broker(engine=True)
        await installation.worker()
        seen: list[Event] = []

        async def watch(hub: Hub, task: str) -> None:
            async for event in hub.watch(task):
                seen.append(event)  # noqa: PERF401 - the test looks at it meanwhile

        async with Hub(installation.bootstrap) as hub:
            workflow = await hub.submit(HELD)
            async with asyncio.TaskGroup() as group:
                group.create_task(watch(hub, workflow.id))
                await until(lambda: "held" in {event.data.key for event in seen if event.type == "task.created"})
                await broker.restart()
                installation.let_go()
        assert seen[-1].type == END
        assert [number(event) for event in seen] == await stored(installation.bootstrap, workflow.id)


async def test_a_tail_prints_each_event_once_while_the_broker_restarts(tmp_path: Path) -> None:
    async with Installation(tmp_path) as installation:
        broker = await installation.broker(engine=True)
        await installation.worker()
        async with Hub(installation.bootstrap) as hub:
            workflow = await hub.submit(HELD)
        arguments = ("--from", "beginning", "--json", "--task", workflow.id, "--bootstrap", installation.bootstrap)
        tail = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub", "events", "tail", *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert tail.stdout is not None
        lines: list[bytes] = []
        try:
            async with asyncio.timeout(120):
                while b'"type":"workflow.started"' not in b"".join(lines):
                    lines.append(await tail.stdout.readline())
                await broker.restart()
                installation.let_go()
                while END.encode() not in lines[-1]:
                    lines.append(await tail.stdout.readline())
                    assert lines[-1], "the tail ended"
        finally:
            tail.kill()
            await tail.wait()
        events = [json.loads(line) for line in lines]
        assert [(event["subject"], event["sequence"]) for event in events] == await stored(installation.bootstrap, workflow.id)
