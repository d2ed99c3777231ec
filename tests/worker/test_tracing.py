"""The trace context of an attempt in its handler: for submissions, and for spans of the handler."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hub import Hub, TaskContext, TaskRegistry
from hub.client.tracing import ATTEMPT_TRACEPARENT, current_traceparent
from hub.testing import HubInMemory
from hub.worker.tracing import ATTRIBUTES_KEY, AttemptScope
from hub.worker.user_spans import describe_spans_of
from schemas import ExecuteAttempt
from schemas.tracing import context_of_event, span_id_of, trace_id_of
from subscribers.otel.spans import spans_of
from tests.subscribers.http_endpoint import HttpEndpoint

SPANS = InMemorySpanExporter()
PROVIDER = TracerProvider(shutdown_on_exit=False)
PROVIDER.add_span_processor(SimpleSpanProcessor(SPANS))
TRACER = PROVIDER.get_tracer("tests")
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@pytest.fixture(autouse=True)
def fresh() -> None:
    SPANS.clear()


tasks = TaskRegistry()


@tasks.task("outer")
async def outer(ctx: TaskContext) -> None:
    with TRACER.start_as_current_span("outer work"):
        await asyncio.sleep(1)
        with TRACER.start_as_current_span("inner work"):
            await asyncio.sleep(1)


@tasks.task("plain")
def plain() -> None:
    with TRACER.start_as_current_span("plain work"):
        pass


@tasks.task("flaky", retry={"max_attempts": 2, "backoff": [1]})
async def flaky(ctx: TaskContext) -> None:
    with TRACER.start_as_current_span(f"work {ctx.attempt}"):
        if ctx.attempt == 1:
            raise ConnectionError("busy")


def by_name() -> dict[str, ReadableSpan]:
    return {span.name: span for span in SPANS.get_finished_spans()}


def ids_of(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Trace, span and parent."""
    own = span.get_span_context()
    assert own is not None
    return f"{own.trace_id:032x}", f"{own.span_id:016x}", None if span.parent is None else f"{span.parent.span_id:016x}"


async def test_spans_of_async_and_plain_handlers_are_below_their_attempt_and_each_other() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.submit("outer", id="order-7")
        await hub.submit("plain", id="order-8")
        await hub.advance(seconds=3)
        runs = {event.subject: event.run for event in hub.events if event.type == "task.created"}
    found = {name: ids_of(span) for name, span in by_name().items()}
    traces = {task: trace_id_of(task, run) for task, run in runs.items()}
    attempts = {task: span_id_of("attempt", task, run, 1) for task, run in runs.items()}
    assert found["outer work"][::2] == (traces["order-7"], attempts["order-7"])
    assert found["inner work"][::2] == (traces["order-7"], found["outer work"][1])
    assert found["plain work"][::2] == (traces["order-8"], attempts["order-8"])


async def test_each_attempt_has_spans_of_its_own_below_it_and_exported_spans_match() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.submit("flaky", id="order-7")
        await hub.advance(seconds=5)
        exported = {(span.trace, span.id) for event in hub.events for span in spans_of(event) if span.name == "attempt flaky"}
    found = by_name()
    assert {ids_of(found[f"work {attempt}"])[::2] for attempt in (1, 2)} == exported


async def test_spans_of_a_task_that_is_not_sampled_are_not_recorded() -> None:
    async with HubInMemory(tasks) as hub:
        for flags in ("00", "01"):
            token = ATTEMPT_TRACEPARENT.set(GIVEN + flags)
            await hub.submit("plain")
            ATTEMPT_TRACEPARENT.reset(token)
            await hub.advance(seconds=1)
            assert len(SPANS.get_finished_spans()) == (flags == "01")


def command(**more: object) -> ExecuteAttempt:
    fields = {
        "task": "t",
        "root": "r",
        "partition": 0,
        "attempt": 2,
        "dispatch": 3,
        "token": "x",
        "namespace": "shop",
        "name": "n",
    }
    return ExecuteAttempt(**{**fields, "version": "1", "key": "pack", "traceparent": GIVEN + "01", **more})  # type: ignore[arg-type]


def test_spans_in_an_attempt_have_its_attributes_and_others_have_none() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    describe_spans_of(provider, ATTRIBUTES_KEY)
    describe_spans_of(provider, ATTRIBUTES_KEY)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    with AttemptScope(command()), tracer.start_as_current_span("in", attributes={"own": 1}), tracer.start_as_current_span("deep"):
        pass
    tracer.start_span("out").end()
    spans = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    attributes = {
        "hub.attempt": 2,
        "hub.namespace": "shop",
        "hub.queue": "default",
        "hub.root_run.id": "r",
        "hub.step.name": "pack",
        "hub.task.id": "t",
        "hub.task.name": "n",
        "hub.task.version": "1",
    }
    assert spans == {"in": {"own": 1, **attributes}, "deep": attributes, "out": {}}


@pytest.mark.parametrize("traceparent", [None, "garbage"])
def test_a_command_without_a_valid_context_leaves_the_current_span_alone(traceparent: str | None) -> None:
    before = context.get_current()
    with AttemptScope(command(traceparent=traceparent)):
        assert context.get_current() == before


def test_after_the_handler_nothing_is_current() -> None:
    with AttemptScope(command()):
        assert current_traceparent() == f"{GIVEN}01".encode()
    assert current_traceparent() is None
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_submission_continues_the_current_span() -> None:
    async with HubInMemory(tasks) as hub:
        with TRACER.start_as_current_span("checkout") as span:
            task = await hub.submit("plain")
        await hub.advance(seconds=1)
        (created,) = hub.events_of(task, "task.created")
    own = span.get_span_context()
    found = context_of_event(created)
    assert found[:2] == (f"{own.trace_id:032x}", f"{own.span_id:016x}")
    assert found.sampled


@pytest.mark.parametrize("plain_function", [False, True])
async def test_a_submission_inside_a_handler_continues_the_attempt_or_its_span(plain_function: bool) -> None:
    registry = TaskRegistry()
    client: list[Hub] = []

    async def submit_both() -> None:
        await client[0].submit("child", id="of-the-attempt")
        with TRACER.start_as_current_span("work"):
            await client[0].submit("child", id="of-the-span")

    async def in_the_loop() -> None:
        await submit_both()

    def in_a_thread() -> list[str]:
        with TRACER.start_as_current_span("work"):
            return [(current_traceparent() or b"").decode()]

    registry.task("parent")(in_a_thread if plain_function else in_the_loop)

    @registry.task("child")
    async def child() -> None: ...

    async with HubInMemory(registry) as hub:
        client.append(hub)
        result = await hub.run("parent", id="parent")
        await hub.advance(seconds=1)
        created = {event.subject: event for event in hub.events if event.type == "task.created"}
    of_parent = context_of_event(created["parent"])
    work = ids_of(by_name()["work"])
    attempt = span_id_of("attempt", "parent", created["parent"].run, 1)
    assert work[::2] == (of_parent.trace, attempt)
    if plain_function:
        assert result == [f"00-{of_parent.trace}-{work[1]}-01"]
    else:
        assert context_of_event(created["of-the-attempt"])[:2] == (of_parent.trace, attempt)
        assert context_of_event(created["of-the-span"])[:2] == (of_parent.trace, work[1])


ROOT = Path(__file__).parents[2]

SUBMITS = """
import asyncio, json, sys
from hub import Hub, TaskRegistry
from hub.testing import HubInMemory
tasks = TaskRegistry()
client = []

@tasks.task("parent")
async def parent():
    await client[0].submit("child", id="child")

@tasks.task("child")
def child(): ...

async def main():
    async with HubInMemory(tasks) as hub:
        client.append(hub)
        await hub.run("parent", id="parent")
        await hub.advance(seconds=1)
        created = {event.subject: event for event in hub.events if event.type == "task.created"}
        loaded = [one for one in sys.modules if one.startswith("opentelemetry")]
        print(json.dumps([created["child"].traceparent, created["parent"].run, loaded]))
asyncio.run(main())
"""

EXPORTS = """
import asyncio, sys
from opentelemetry import trace
from pydantic import SecretStr
from hub.worker import SpanExport
from hub.worker.tracing import AttemptScope, begin_export, flush_export
from schemas import ExecuteAttempt
if sys.argv[2] == "own":
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
export = SpanExport(endpoint=sys.argv[1], headers=SecretStr("authorization=Bearer%20x"), gzip=False)
begin_export(export)
for flags in ("01", "00"):
    with AttemptScope(ExecuteAttempt(
        task="order-7", root="order-7", partition=0, attempt=1, dispatch=1, token="x", namespace="shop", name="n",
        traceparent=f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}",
    )):
        with trace.get_tracer("app").start_as_current_span(f"work {flags}"):
            pass
asyncio.run(flush_export(export))
"""


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_opentelemetry_in_the_program_nothing_loads_it_and_submissions_continue_the_attempt() -> None:
    traceparent, run_number, loaded = json.loads(run(SUBMITS))
    assert loaded == []
    assert traceparent == f"00-{trace_id_of('parent', run_number)}-{span_id_of('attempt', 'parent', run_number, 1)}-01"


@pytest.mark.parametrize(("whose", "requests"), [("ours", 1), ("own", 0)])
async def test_spans_of_sampled_attempts_are_exported_at_the_end_unless_the_program_does_it(whose: str, requests: int) -> None:
    async with HttpEndpoint() as endpoint:
        await asyncio.to_thread(run, EXPORTS, endpoint.url, whose)
    assert [request.target for request in endpoint.requests] == ["/v1/traces"] * requests
    for request in endpoint.requests:
        assert request.headers["authorization"] == "Bearer x"
        assert b"hub-worker" in request.body
        assert b"order-7" in request.body
        assert b"work 01" in request.body
        assert b"work 00" not in request.body
