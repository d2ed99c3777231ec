"""`hub bench`: figures, with the conditions under which they were taken."""

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bench_all import bench_all
from .render import print_fields, print_json
from .shell import EXIT_NOT_COMPLETED, Json, OptionalBootstrap, run

if TYPE_CHECKING:
    from ..bench import Benchmark, Round
    from .local_hub import LocalHub

Tasks = Annotated[int | None, typer.Option(min=1, help="How many tasks make a round (steps of a workflow, records).")]
Rounds = Annotated[int | None, typer.Option(min=1, help="How many rounds, after one to get warm.")]
Slots = Annotated[int, typer.Option(min=1, help="How many tasks the worker runs at once.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Run the checker at the end, over all that was written.")]
WithEngine = Annotated[bool, typer.Option("--with-engine", help="With --bootstrap: start an engine there, too.")]
Flush = Annotated[
    str,
    typer.Option(
        help="Flush policy of the broker that the benchmark starts: always (fsync before an answer), interval:<ms>, os."
    ),
]
Partitions = Annotated[int, typer.Option(min=1, help="Engine partitions of the own hub.")]

_EXITS = "Exit codes: 0 measured; 1 a task did not complete or the checker found something; 3 no broker answers."
_OWN = (
    "Without --bootstrap it starts a hub of its own (broker with engine, worker, delivery); with it, only a worker. "
    "Processor time per task is reported for the processes that it started."
)


def register(app: typer.Typer) -> None:
    """Add `hub bench` to the command line."""
    benches = typer.Typer(no_args_is_help=True, help="Measure a hub, or the engine or the broker alone.")
    for name, sentence in (
        ("throughput", "Measure no-op tasks per second, submitted side by side."),
        ("latency", "Measure no-op tasks one at a time, from the submission to the result."),
        ("fanout", "Measure a workflow of one step, N side by side after it, and one that waits for them all."),
        ("chain", "Measure a workflow of N steps, one after the other."),
    ):
        benches.command(name, help=f"{sentence}\n\n{_OWN}\n\n{_EXITS}")(_command(name))
    benches.command("broker")(broker)
    benches.command("engine")(engine)
    benches.command("all")(bench_all)
    app.add_typer(benches, name="bench")


def _command(name: str) -> Any:
    def bench(
        tasks: Tasks = None,
        rounds: Rounds = None,
        slots: Slots = 500,
        verify: Verify = True,
        with_engine: WithEngine = False,
        flush: Flush = "always",
        partitions: Partitions = 1,
        as_json: Json = False,
        bootstrap: OptionalBootstrap = None,
    ) -> None:
        from ..bench import BENCHMARKS

        chosen = BENCHMARKS[name]
        amount, count = tasks or chosen.tasks, rounds or chosen.rounds
        work = _bench(name, chosen, amount, count, slots, verify, with_engine, flush, partitions, bootstrap)
        _tell(run(work, fast=True), as_json=as_json)

    return bench


def _tell(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(figures)
    else:
        print_fields(_flat(figures))
    if figures.get("verified") is False:
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, value))
    return lines


async def _bench(
    name: str,
    chosen: "Benchmark",
    tasks: int,
    rounds: int,
    slots: int,
    verify: bool,
    with_engine: bool,
    flush: str,
    partitions: int,
    bootstrap: str | None,
) -> dict[str, Any]:
    from ..bench import REGISTRY, SUBSCRIBER, all_completed, conditions, cpu_us_per_task, figures_of
    from .local_hub import LocalHub

    about = conditions()
    async with LocalHub(bootstrap) as local:
        if bootstrap is None:
            await local.start_broker(flush=flush, partitions=partitions)
        elif with_engine:
            await local.start_engine()
        await local.start_worker(REGISTRY, slots=slots)
        if bootstrap is None:
            await local.start_delivery(SUBSCRIBER)
        measured, before, after, owned = await _rounds(local, chosen, tasks, rounds)
        figures = figures_of(name, measured)
        filesystem = local.filesystem() if bootstrap is None else None
        checked = await _check(local.bootstrap) if verify and bootstrap is None else None
    done = sum(one.tasks for one in measured)
    figures["fsync"] = flush == "always" if bootstrap is None else None
    figures["filesystem"] = filesystem
    figures["verified"] = all_completed(measured) and (checked is None or checked["ok"])
    figures["checker"] = checked
    figures["cpu_us_per_task"] = cpu_us_per_task(before, after, done)
    figures["slots"] = slots
    figures["bootstrap"] = bootstrap or "its own hub"
    figures["partitions"] = owned
    return figures | about


async def _rounds(
    local: "LocalHub", chosen: "Benchmark", tasks: int, rounds: int
) -> tuple[list["Round"], dict[str, float], dict[str, float], int]:
    """The rounds after one to get warm, the processor seconds used before and after them by role, the hub's partitions."""
    from ..client import Hub

    async with Hub(local.bootstrap) as hub:
        await chosen.measure(hub, min(tasks, chosen.warm_up))
        before = _cpu_seconds(local)
        measured = [await chosen.measure(hub, tasks) for _ in range(rounds)]
        return measured, before, _cpu_seconds(local), hub.partitions


def _cpu_seconds(local: "LocalHub") -> dict[str, float]:
    return {"client": time.process_time(), **local.cpu_seconds()}


async def _check(bootstrap: str) -> dict[str, Any]:
    """What the checker says, in short."""
    from ..verify import verify

    report = await verify(bootstrap, require_all_ended=True)
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
    flush: Flush = "always",
    as_json: Json = False,
    bootstrap: OptionalBootstrap = None,
) -> None:
    """Measure the broker alone: records produced and consumed per second, and what a transaction takes.

    Without --bootstrap it starts a broker of its own. With it, records are written to a topic of its own, which is deleted
    at the end. Exit codes: 0 measured; 3 no broker answers.
    """
    _tell(run(_broker(tasks or 20_000, rounds or 3, flush, bootstrap), fast=True), as_json=as_json)


async def _broker(records: int, rounds: int, flush: str, bootstrap: str | None) -> dict[str, Any]:
    from ..bench import conditions, cpu_us_per_task, measure_broker
    from .local_hub import LocalHub

    about = conditions()
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(LocalHub(bootstrap))
        if bootstrap is None:
            await local.start_broker(engine=False, flush=flush)
        before = _cpu_seconds(local)
        figures = await measure_broker(local.bootstrap, records, rounds)
        figures["cpu_us_per_task"] = cpu_us_per_task(before, _cpu_seconds(local), records * rounds)
    figures["fsync"] = flush == "always" if bootstrap is None else None
    return figures | about


def engine(
    tasks: Tasks = None,
    rounds: Rounds = None,
    encode: Annotated[bool, typer.Option("--encode/--no-encode", help="Write the records out, too, or only decide.")] = True,
    as_json: Json = False,
) -> None:
    """Measure the engine's decisions alone, in this process: microseconds of one core per no-op task. No broker is needed.

    Exit codes: 0 measured.
    """
    from ..bench import conditions, measure_engine

    about = conditions()
    _tell(measure_engine(tasks or 20_000, rounds or 3, encoded=encode) | about, as_json=as_json)
