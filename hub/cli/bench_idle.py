"""`hub bench idle`: what a hub uses while nothing happens, per process."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .render import print_json
from .shell import Json, run

if TYPE_CHECKING:
    from ..bench import ProcessUse

WARM_UP_TASKS = 100


def idle(
    seconds: Annotated[float, typer.Option(min=0.5, help="Seconds of the measurement.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Measure a hub while nothing happens: wake-ups per second, CPU time, memory, threads and connections of each process.

    It starts a new hub as `hub up` does, with one worker and one subscriber, runs some tasks, and waits until the hub is calm.
    Linux only. Exit codes: 0 success; 1 the hub does not become calm, or a process has ended.
    """
    figures = run(measure_idle_hub(seconds), fast=True)
    if as_json:
        print_json(figures)
    else:
        _print(figures)


def _print(figures: dict[str, Any]) -> None:
    from .tables import print_table

    rows = [
        [name, one.wakeups_per_second, one.cpu_percent, one.pss_mib, one.uss_mib, one.processes, one.threads, one.connections]
        for name, one in (*figures["processes"].items(), ("total", figures["total"]))
    ]
    columns = ["PROCESS", "WAKE-UPS/S", "CPU %", "PSS MIB", "USS MIB", "PROCESSES", "THREADS", "CONNECTIONS"]
    print_table(columns, rows)


async def measure_idle_hub(seconds: float) -> dict[str, Any]:
    """The figures of a new, idle hub by process, their sum, and the conditions. Raises NotReady, HubError."""
    from ..bench import BENCHMARKS, REGISTRY, SUBSCRIBER, conditions, families, measure_idle, total, until_calm
    from ..client import Hub
    from .local_hub import LocalHub

    about = conditions()
    async with LocalHub() as local:
        processes = await local.start_up(REGISTRY, SUBSCRIBER)
        async with Hub(local.cluster) as hub:
            await BENCHMARKS["throughput"].measure(hub, WARM_UP_TASKS)
        groups = families(processes)
        calm = await until_calm([pid for pids in groups.values() for pid in pids])
        uses: dict[str, ProcessUse] = await measure_idle(groups, seconds)
        filesystem = local.filesystem()
    return {
        "bench": "idle",
        "seconds": seconds,
        "calm_after_seconds": round(calm, 1),
        "processes": uses,
        "total": total(uses),
        "filesystem": filesystem,
    } | about
