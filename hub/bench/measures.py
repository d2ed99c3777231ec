"""Measurements of a running hub: each function runs one round and returns a `Round`.

Time is measured at the client, from before the first submission until the last outcome arrives. Every outcome is counted: a
round is valid only if each task completed exactly once (see `completed`).
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ..client import Hub, TaskHandle, Workflow

NOOP = "bench-noop"
CHUNK_TASKS = 500
CHUNKS_IN_FLIGHT = 8
OUTCOME_SECONDS = 120.0


class Round(Struct, kw_only=True):
    """One round: number of `tasks` submitted and `completed`, total `seconds`, and the duration of each task if they were
    timed."""

    tasks: int
    completed: int
    seconds: float
    durations_ms: list[float] = []


Measure = Callable[[Hub, int], Awaitable[Round]]


async def throughput(hub: Hub, tasks: int) -> Round:
    """No-op tasks, submitted in chunks, with at most `CHUNKS_IN_FLIGHT` chunks in flight."""
    began = time.perf_counter()
    in_flight: deque[list[TaskHandle]] = deque()
    ended: set[str] = set()
    for first in range(0, tasks, CHUNK_TASKS):
        if len(in_flight) == CHUNKS_IN_FLIGHT:
            await _collect(in_flight.popleft(), ended)
        chunk: list[dict[str, Any]] = [{"name": NOOP} for _ in range(min(CHUNK_TASKS, tasks - first))]
        in_flight.append(await hub.submit_many(chunk))
    while in_flight:
        await _collect(in_flight.popleft(), ended)
    return Round(tasks=tasks, completed=len(ended), seconds=time.perf_counter() - began)


async def _collect(handles: list[TaskHandle], ended: set[str]) -> None:
    for handle in handles:
        reply = await handle.outcome(timeout_seconds=OUTCOME_SECONDS)
        if reply.state == "completed" and reply.task == handle.id:
            ended.add(reply.task)


async def latency(hub: Hub, tasks: int) -> Round:
    """No-op tasks one after another; each is timed from before the submission until its result arrives."""
    durations = []
    began = time.perf_counter()
    for _ in range(tasks):
        started = time.perf_counter()
        await hub.run(NOOP, timeout_seconds=OUTCOME_SECONDS)  # raises if it does not complete
        durations.append((time.perf_counter() - started) * 1000)
    return Round(tasks=tasks, completed=tasks, seconds=time.perf_counter() - began, durations_ms=durations)


async def fanout(hub: Hub, tasks: int) -> Round:
    """One workflow: a step, `tasks` steps that depend on it, and one that depends on all of them."""
    workflow = Workflow("bench-fanout").step("first", NOOP)
    steps = [f"step-{number}" for number in range(tasks)]
    for step in steps:
        workflow.step(step, NOOP, after=["first"])
    return await _workflow(hub, workflow.step("join", NOOP, after=steps), tasks + 2)


async def chain(hub: Hub, tasks: int) -> Round:
    """One workflow: `tasks` steps, each depending on the previous one."""
    workflow = Workflow("bench-chain")
    for number in range(tasks):
        workflow.step(f"step-{number}", NOOP, after=[f"step-{number - 1}"] if number else [])
    return await _workflow(hub, workflow, tasks)


async def _workflow(hub: Hub, workflow: Workflow, tasks: int) -> Round:
    """Run a workflow; `workflow.completed` implies that all its steps completed."""
    began = time.perf_counter()
    handle = await hub.submit(workflow)
    reply = await handle.outcome(timeout_seconds=OUTCOME_SECONDS)
    seconds = time.perf_counter() - began
    return Round(tasks=tasks, completed=tasks if reply.state == "completed" else 0, seconds=seconds)


class Benchmark(Struct, frozen=True, kw_only=True):
    """A measurement, its default number of `tasks` per round, and of `warm_up` tasks before the first round."""

    measure: Measure
    tasks: int
    rounds: int
    warm_up: int
    slots: int = 500


BENCHMARKS: dict[str, Benchmark] = {
    "throughput": Benchmark(measure=throughput, tasks=10_000, rounds=3, warm_up=1_000),
    "latency": Benchmark(measure=latency, tasks=500, rounds=3, warm_up=50),
    "fanout": Benchmark(measure=fanout, tasks=1_000, rounds=5, warm_up=100),
    "chain": Benchmark(measure=chain, tasks=1_000, rounds=3, warm_up=50),
}
