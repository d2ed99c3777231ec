"""One correlation id can be followed through client, engine, worker and subscriber; log records of handlers have it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from hub import TaskContext, TaskRegistry
from hub.telemetry import configure_logging
from hub.testing import HubInMemory
from schemas import Event
from schemas.tracing import context_of_event, span_id_of
from subscribers import subscriber

tasks = TaskRegistry()
LOG = logging.getLogger("app")


@tasks.task("charge")
async def charge(ctx: TaskContext) -> None:
    ctx.logger.info("charging")


@tasks.task("print")
def print_receipt(ctx: TaskContext) -> None:
    LOG.info("printing")


@subscriber("task.completed")
async def audit(event: Event) -> None:
    LOG.info("audited")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        stream = io.StringIO()
        configure_logging("test", "info", stream, "json")
        yield stream
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


async def test_one_correlation_id_is_on_every_event_and_every_line_about_its_tasks(stream: io.StringIO) -> None:
    async with HubInMemory(tasks) as hub:
        await hub.attach(audit)
        steps = {"charge": {"name": "charge"}, "print": {"name": "print", "depends_on": ["charge"]}}
        workflow = await hub.submit("order", id="order-7", tasks=steps, correlation_id="customer-4711")
        await workflow.result()
        await hub.settle()
        events = [event for event in hub.events if event.taskname is not None]
        assert {event.correlationid for event in events} == {"customer-4711"}
        started = {event.taskname: event for event in events if event.type == "task.started"}
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = {line["event"]: line for line in lines if line["event"] in ("charging", "printing", "audited")}
    for line in said.values():
        assert line["correlation_id"] == "customer-4711"
        assert line["root"] == "order-7"
    for event, name in (("charging", "charge"), ("printing", "print")):
        start, line = started[name], said[event]
        assert line["task"] == start.subject
        assert line["attempt"] == 1
        assert line["trace_id"] == context_of_event(start).trace
        assert line["span_id"] == span_id_of("attempt", start.subject, start.run, 1)
    assert said["audited"]["event_id"]
    outside = [line for line in lines if line["event"] not in said]
    assert not [line for line in outside if "correlation_id" in line]
