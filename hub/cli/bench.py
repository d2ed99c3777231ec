"""`hub bench`: benchmarks, with the conditions of the measurement."""

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .bench_all import bench_all
from .bench_delivery import measure_delivery
from .bench_idle import idle
from .bench_memory import memory
from .bench_output import tell
from .shell import Json, OptionalBootstrap, run

if TYPE_CHECKING:
    from ..bench import Benchmark, Round
    from ..kafka import Cluster
    from .local_hub import LocalHub

FLUSH = "always"
PARTITIONS = 1

Tasks = Annotated[int | None, typer.Option(min=1, help="Number of tasks per round (or steps of a workflow, or records).")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Number of rounds, after a warm-up round.")]
Slots = Annotated[int, typer.Option(min=1, help="Maximum number of concurrent tasks of the worker.")]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Run the checker on all records of a hub of its own at the end.")
]
WithEngine = Annotated[
    bool,
    typer.Option(
        "--with-engine", help="With --bootstrap: also start an engine. It takes partitions from an engine that is running there."
    ),
]
WithDelivery = Annotated[
    bool,
    typer.Option(
        "--with-delivery",
        help="With --bootstrap: also start delivery to a subscriber that takes every event. Its consumer group and its topic of "
        "dead letters are deleted at the end.",
    ),
]
Flush = Annotated[
    str | None,
    typer.Option(
        help="Flush policy of the broker that the benchmark starts: always (fsync before each response), interval:<ms>, or os.",
        show_default=FLUSH,
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(min=1, help="Engine partitions of the hub that the benchmark starts.", show_default=str(PARTITIONS)),
]

_EXITS = (
    "Exit codes: 0 success; 1 a task did not complete, or the checker has findings; 2 an option is invalid; 3 no broker responds."
)
_OWN = (
    "Without --bootstrap it starts a new hub (broker with engine, worker, delivery); with it, only a worker, unless "
    "--with-engine and --with-delivery are given. CPU time per task is reported for the processes that it started."
)


def register(app: typer.Typer) -> None:
    """Add `hub bench` to the command line."""
    benches = typer.Typer(no_args_is_help=True, help="Run benchmarks of a hub, or of its delivery, the engine or the broker.")
    for name, sentence in (
        ("throughput", "Measure the throughput of no-op tasks that are submitted concurrently."),
        ("latency", "Measure the latency of single no-op tasks, from the submission to the result."),
        ("fanout", "Measure a workflow of one step, N parallel steps after it, and one that depends on all of them."),
        ("chain", "Measure a workflow of N consecutive steps."),
    ):
        benches.command(name, help=f"{sentence}\n\n{_OWN}\n\n{_EXITS}")(_command(name))
    benches.command("broker")(broker)
    benches.command("engine")(engine)
    benches.command("delivery")(delivery)
    benches.command("idle")(idle)
    benches.command("memory")(memory)
    benches.command("all")(bench_all)
    app.add_typer(benches, name="bench")


def _command(name: str) -> Any:
    def bench(
        tasks: Tasks = None,
        rounds: Rounds = None,
        slots: Slots = 500,
        verify: Verify = True,
        with_engine: WithEngine = False,
        with_delivery: WithDelivery = False,
        flush: Flush = None,
        partitions: Partitions = None,
        as_json: Json = False,
        bootstrap: OptionalBootstrap = None,
    ) -> None:
        from ..bench import BENCHMARKS

        _refuse(bootstrap is None, "without --bootstrap", {"--with-engine": with_engine, "--with-delivery": with_delivery})
        _refuse(bootstrap is not None, "with --bootstrap", {"--flush": flush, "--partitions": partitions})
        chosen = BENCHMARKS[name]
        amount, count = tasks or chosen.tasks, rounds or chosen.rounds
        roles = {"engine": with_engine, "delivery": with_delivery}
        work = _bench(name, chosen, amount, count, slots, verify, roles, flush or FLUSH, partitions or PARTITIONS, bootstrap)
        tell(run(work, fast=True), as_json=as_json)

    return bench


def _refuse(condition: bool, when: str, options: Mapping[str, object]) -> None:
    """Reject options that would have no effect."""
    for option, value in options.items():
        if condition and value:
            raise typer.BadParameter(f"has no effect {when}", param_hint=option)


async def _bench(
    name: str,
    chosen: "Benchmark",
    tasks: int,
    rounds: int,
    slots: int,
    verify: bool,
    roles: Mapping[str, bool],
    flush: str,
    partitions: int,
    bootstrap: str | None,
) -> dict[str, Any]:
    """`roles`: whether to start an engine, and delivery, with `bootstrap`."""
    from ..bench import REGISTRY, SUBSCRIBER, all_completed, conditions, figures_of, subscriber_of_benchmark
    from ..runtime.cluster import cluster_at
    from .local_hub import LocalHub

    about = conditions()
    async with AsyncExitStack() as stack:
        if bootstrap is not None and roles["delivery"]:
            await stack.enter_async_context(subscriber_of_benchmark(cluster_at(bootstrap), SUBSCRIBER))
        local = await stack.enter_async_context(LocalHub(bootstrap))
        if bootstrap is None:
            await local.start_broker(flush=flush, partitions=partitions)
        elif roles["engine"]:
            await local.start_engine()
        await local.start_worker(REGISTRY, slots=slots)
        if bootstrap is None or roles["delivery"]:
            await local.start_delivery(SUBSCRIBER)
        measured = await _rounds(local, chosen, tasks, rounds)
        figures = figures_of(name, measured.rounds)
        filesystem = local.filesystem() if bootstrap is None else None
        checked = await _check(local.cluster) if verify and bootstrap is None else None
    figures["fsync"] = flush == "always" if bootstrap is None else None
    figures["filesystem"] = filesystem
    figures["verified"] = all_completed(measured.rounds) and (checked is None or checked["ok"])
    figures["checker"] = checked
    figures["cpu_us_per_task"] = measured.cpu_us_per_task
    figures["disk_bytes_per_task"] = measured.disk_bytes_per_task
    figures["slots"] = slots
    figures["bootstrap"] = bootstrap or "its own hub"
    figures["partitions"] = measured.partitions
    return figures | about


class _Measured(NamedTuple):
    """The rounds after a warm-up round; CPU time by role and growth of the topics during them; the number of the hub's
    partitions."""

    rounds: list["Round"]
    cpu_us_per_task: dict[str, float]
    disk_bytes_per_task: dict[str, float]
    partitions: int


async def _rounds(local: "LocalHub", chosen: "Benchmark", tasks: int, rounds: int) -> _Measured:
    """Run the rounds after a warm-up round."""
    from ..bench import cpu_us_per_task, disk_bytes_per_task
    from ..client import Hub
    from ..kafka import describe_storage

    async with Hub(local.cluster) as hub:
        await chosen.measure(hub, min(tasks, chosen.warm_up))
        stored, cpu = await describe_storage(local.cluster), _cpu_seconds(local)
        measured = [await chosen.measure(hub, tasks) for _ in range(rounds)]
        done = sum(one.tasks for one in measured)
        used = cpu_us_per_task(cpu, _cpu_seconds(local), done)
        grown = disk_bytes_per_task(stored, await describe_storage(local.cluster), done)
        return _Measured(measured, used, grown, hub.partitions)


def _cpu_seconds(local: "LocalHub") -> dict[str, float]:
    return {"client": time.process_time(), **local.cpu_seconds()}


async def _check(cluster: "Cluster") -> dict[str, Any]:
    """A summary of the checker's report."""
    from ..verify import verify

    report = await verify(cluster, require_all_ended=True)
    return {
        "ok": report.ok,
        "events": report.events,
        "tasks": report.tasks,
        "seconds": round(report.seconds, 3),
        "findings": [str(finding) for finding in report.findings[:10]],
    }


def broker(
    tasks: Tasks = None,
    rounds: Rounds = None,
    flush: Flush = None,
    as_json: Json = False,
    bootstrap: OptionalBootstrap = None,
) -> None:
    """Measure the broker alone: records produced and consumed per second, and the duration of a transaction.

    Without --bootstrap it starts a new broker. Records are written to a separate topic, which is deleted at the end. Exit
    codes: 0 success; 3 no broker responds.
    """
    _refuse(bootstrap is not None, "with --bootstrap", {"--flush": flush})
    tell(run(_broker(tasks or 20_000, rounds or 3, flush or FLUSH, bootstrap), fast=True), as_json=as_json)


async def _broker(records: int, rounds: int, flush: str, bootstrap: str | None) -> dict[str, Any]:
    from ..bench import conditions, cpu_us_per_task, measure_broker
    from .local_hub import LocalHub

    about = conditions()
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalHub(bootstrap))
        if bootstrap is None:
            await local.start_broker(engine=False, flush=flush)
        before = _cpu_seconds(local)
        figures = await measure_broker(local.cluster, records, rounds)
        figures["cpu_us_per_task"] = cpu_us_per_task(before, _cpu_seconds(local), records * rounds)
    figures["fsync"] = flush == "always" if bootstrap is None else None
    return figures | about


def engine(
    tasks: Tasks = None,
    rounds: Rounds = None,
    encode: Annotated[
        bool, typer.Option("--encode/--no-encode", help="Include the encoding of records, or decisions only.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Measure the engine's decisions alone, in this process and without a broker: CPU time per no-op task in microseconds.

    Exit codes: 0 success.
    """
    from ..bench import conditions, measure_engine

    about = conditions()
    tell(measure_engine(tasks or 20_000, rounds or 3, encoded=encode) | about, as_json=as_json)


def delivery(
    tasks: Tasks = None,
    rounds: Rounds = None,
    slots: Slots = 500,
    flush: Flush = None,
    as_json: Json = False,
) -> None:
    """Measure delivery: events per second to a subscriber that takes every type, spans per second to a local OTLP collector, both
    per core (CPU time), and the CPU time per succeeding task of a subscriber that takes only failed tasks, in microseconds.

    It starts a new hub. Exit codes: 0 success.
    """
    tell(run(_delivery(tasks or 5_000, rounds or 3, slots, flush or FLUSH), fast=True), as_json=as_json)


async def _delivery(tasks: int, rounds: int, slots: int, flush: str) -> dict[str, Any]:
    from ..bench import REGISTRY, conditions
    from .local_hub import LocalHub

    about = conditions()
    async with LocalHub() as local:
        await local.start_broker(flush=flush)
        await local.start_worker(REGISTRY, slots=slots)
        figures = await measure_delivery(local, tasks, rounds)
    return figures | {"fsync": flush == "always"} | about
