"""`hub bench memory`: what waiting tasks cost, and how long a hub with them takes to start after a crash."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .bench_output import tell
from .shell import Json, run

if TYPE_CHECKING:
    from ..kafka import ClusterStorage
    from .local_hub import LocalHub

WARM_UP_TASKS = 100
TASKS = 100_000


def memory(
    tasks: Annotated[int, typer.Option(min=1, help="Number of waiting tasks.")] = TASKS,
    rounds: Annotated[int, typer.Option(min=1, help="Number of restarts.")] = 3,
    partitions: Annotated[int, typer.Option(min=1, help="Engine partitions of the hub.")] = 1,
    separate_engine: Annotated[
        bool, typer.Option("--separate-engine", help="Run the engine in a separate process, which has figures of its own.")
    ] = False,
    flush: Annotated[str, typer.Option(help="Flush policy of the broker: always, interval:<ms>, or os.")] = "always",
    as_json: Json = False,
) -> None:
    """Measure waiting tasks: memory of each process before and after their submission, bytes per task in memory and on disk,
    size of the snapshot. Then kill the hub (SIGKILL) and measure the time from its start to the first result of a new task.

    It starts a new hub as `hub up` does, with one worker and one subscriber. Exit codes: 0 success; 1 a task was not admitted, or
    the hub did not start.
    """
    options = ["--partitions", str(partitions), "--flush", flush, *(["--separate-engine"] if separate_engine else [])]
    tell(run(_measure(tasks, rounds, options), fast=True), as_json=as_json)


async def _measure(tasks: int, rounds: int, options: list[str]) -> dict[str, Any]:
    from ..bench import BENCHMARKS, REGISTRY, SUBSCRIBER, conditions, fill
    from ..client import Hub
    from .local_hub import LocalHub

    about = conditions()
    async with LocalHub() as local:
        processes = await local.start_up(REGISTRY, SUBSCRIBER, options)
        async with Hub(local.cluster) as hub:
            await BENCHMARKS["throughput"].measure(hub, WARM_UP_TASKS)
            before = await _use_of(local, processes)
            began = time.perf_counter()
            await fill(hub, tasks)
            seconds = time.perf_counter() - began
        after = await _use_of(local, processes)
        restarts = [await _restart(local) for _ in range(rounds)]
        filesystem = local.filesystem()
    return {
        "bench": "memory",
        "tasks": tasks,
        "rounds": rounds,
        "submit_seconds": round(seconds, 3),
        **_growth(before, after, tasks),
        **_restarts(restarts),
        "hub_options": " ".join(options),
        "filesystem": filesystem,
    } | about


class _Use(NamedTuple):
    """What a calm hub uses: PSS by process, size of the snapshots, allocated space of the data directory, all in bytes; the size
    of its topics."""

    pss: dict[str, int]
    snapshot: int
    stored: int
    topics: "ClusterStorage"


async def _use_of(local: "LocalHub", processes: dict[str, int]) -> _Use:
    from ..bench import families, pss_bytes, snapshot_bytes, stored_bytes, until_calm
    from ..kafka import describe_storage

    groups = families(processes)
    await until_calm([pid for pids in groups.values() for pid in pids])
    topics = await describe_storage(local.cluster)
    return _Use(pss_bytes(groups), await snapshot_bytes(local.data_dir), await stored_bytes(local.data_dir), topics)


def _growth(before: _Use, after: _Use, tasks: int) -> dict[str, Any]:
    from ..bench import disk_bytes_per_task

    grown = {name: round((pss - before.pss[name]) / tasks, 1) for name, pss in after.pss.items()}
    return {
        "pss_mib_before": _mib(before.pss),
        "pss_mib_after": _mib(after.pss),
        "memory_bytes_per_task": grown | {"total": round(sum(grown.values()), 1)},
        "snapshot_bytes": after.snapshot,
        "data_bytes_per_task": round((after.stored - before.stored) / tasks, 1),
        "disk_bytes_per_task": disk_bytes_per_task(before.topics, after.topics, tasks),
    }


def _mib(sizes: dict[str, int]) -> dict[str, float]:
    return {name: round(size / 2**20, 2) for name, size in {**sizes, "total": sum(sizes.values())}.items()}


async def _restart(local: "LocalHub") -> tuple[float, float]:
    """Kill the hub and start it; the seconds from its start to the first result of a task, and until all processes are ready."""
    from ..bench import first_result

    killed = await local.kill("up")
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        result = group.create_task(first_result(local.cluster))
        ready = group.create_task(local.start_again(killed))
    return result.result() - began, ready.result()


def _restarts(restarts: list[tuple[float, float]]) -> dict[str, Any]:
    from ..bench import spread

    to_result, to_ready = (spread(list(values)) for values in zip(*restarts, strict=True))
    return {
        "first_result_seconds": to_result["median"],
        "ready_seconds": to_ready["median"],
        "spread": {"first_result_seconds": to_result, "ready_seconds": to_ready},
    }
