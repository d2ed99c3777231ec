"""`hub bench all`: all benchmarks on the embedded broker and, with --bootstrap, on Apache Kafka, as one document."""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError, HubError
from .render import print_json
from .shell import EXIT_NOT_COMPLETED, Json, run

if TYPE_CHECKING:
    from ..bench import Column, Round
    from ..kafka import Cluster
    from .local_hub import LocalHub

LIVE_TASKS = 10_000
RESTARTS = 3
ALONE_ROUNDS = 3
"""Rounds of the benchmarks of delivery, of the broker alone and of the engine alone."""
RECORDS = 20_000
ENGINE_TASKS = 20_000
IDLE_SECONDS = 10.0
IDLE_SECONDS_QUICK = 1.0
DELIVERY_TASKS = 5_000
DELIVERY_TASKS_MIN = 1_000
"""With fewer tasks the CPU time is near the resolution of the clock, 10 ms."""
QUICK = 0.02
"""The share of the tasks with `--quick`, which runs one round."""
SLOTS = 500
HUB_GROUPS = "hub."
"""How the names of the hub's consumer groups start."""


def bench_all(
    bootstrap: Annotated[
        str | None,
        typer.Option(
            "--bootstrap",
            metavar="HOST:PORT",
            help="Also measure this Apache Kafka cluster. It must have no hub; the topics are deleted at the end.",
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a document in Markdown (BENCHMARKS.md).")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run one round with a fiftieth of the tasks, for rough results.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run all benchmarks and show the results of both brokers side by side. Takes some minutes; progress is printed to stderr.

    Exit codes: 0 success; 1 a benchmark failed or the checker has findings (the other results are shown); 2 the cluster at
    --bootstrap has a hub; 3 no broker responds there.
    """
    from ..bench import render_markdown

    about = _conditions()
    columns = run(_columns(bootstrap, QUICK if quick else 1.0, 1 if quick else None), fast=True)
    command = "hub bench all --markdown" + (" --bootstrap HOST:PORT" if bootstrap else "") + (" --quick" if quick else "")
    if as_json:
        print_json({"conditions": about, "columns": columns})
    elif markdown:
        print(render_markdown(columns, about, command), end="")
    else:
        _print_figures(columns)
    if any(column.failures for column in columns):
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _print_figures(columns: "list[Column]") -> None:
    from .tables import print_table

    names = dict.fromkeys(figure.name for column in columns for figure in column.figures)
    rows = []
    for name in names:
        found = [column.find(name) for column in columns]
        unit = next(figure.unit for figure in found if figure is not None)
        rows.append([name, *("" if figure is None else figure.text() for figure in found), unit])
    print_table(["MEASURE", *(column.title.upper() for column in columns), "UNIT"], rows, shorten=["MEASURE"])


def _conditions() -> dict[str, str]:
    """The machine and the versions, without the host name."""
    import psutil

    from ..bench import conditions

    about = conditions()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return {
        "Machine": f"{about['cores']} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        "System": str(about["platform"]),
        "Versions": versions,
        "Load before": str(about["load_before"]),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.machine()


async def _columns(bootstrap: str | None, share: float, rounds: int | None) -> "list[Column]":
    from ..runtime.cluster import cluster_at
    from .local_hub import LocalHub

    columns = []
    if bootstrap is not None:
        await _refuse_a_hub_on(cluster_at(bootstrap))  # before minutes of work
    async with LocalHub() as local:
        await local.start_broker()
        columns.append(await Suite("embedded broker", "broker+engine", local, share, rounds).measure())
    if bootstrap is not None:
        async with _hub_on(cluster_at(bootstrap)), LocalHub(bootstrap) as local:
            await local.start_engine()
            columns.append(await Suite("Apache Kafka", "engine", local, share, rounds).measure())
    return columns


async def _refuse_a_hub_on(cluster: "Cluster") -> None:
    from ..kafka import TopicMissing, describe_partitions

    try:
        await describe_partitions(cluster)
    except TopicMissing:
        return
    raise ConfigurationError(f"{cluster} has a hub, whose topics would be deleted. Use a cluster without a hub.")


@asynccontextmanager
async def _hub_on(cluster: "Cluster") -> AsyncIterator[None]:
    """Create the topics of a hub on a cluster; at the end delete them, and the consumer groups that were created meanwhile."""
    from ..kafka import delete_groups, delete_hub, ensure_hub, list_groups

    groups = await list_groups(cluster, HUB_GROUPS)
    await ensure_hub(cluster)
    try:
        yield
    finally:
        try:
            await delete_groups(cluster, sorted({*await list_groups(cluster, HUB_GROUPS)} - {*groups}))
        finally:
            await delete_hub(cluster)


class Suite:
    """Runs all benchmarks on one broker. `home`: the role of the process that is killed in the benchmark of restarts."""

    def __init__(self, title: str, home: str, local: "LocalHub", share: float, rounds: int | None) -> None:
        from ..bench import Column

        self._local, self._home, self._share, self._rounds = local, home, share, rounds
        self._on_kafka = home == "engine"
        self._column = Column(title=title)

    async def measure(self) -> "Column":
        """Run the benchmarks and return their results. A failure is recorded, and the next benchmark follows."""
        from ..bench import REGISTRY, SUBSCRIBER

        await self._local.start_worker(REGISTRY, slots=SLOTS)
        await self._local.start_delivery(SUBSCRIBER)
        await self._describe()
        self._memory("Memory, idle")  # before the first task
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("idle", self._idle),
            ("throughput", self._throughput),
            ("latency", self._latency),
            ("fan-out", partial(self._workflow, "fanout", "Fan-out")),
            ("chain", partial(self._workflow, "chain", "Chain")),
            ("delivery", self._delivery),
            ("checker", self._verify),
            ("broker", self._broker),
            ("engine", self._engine),
            ("restart", self._restart),
        ]
        for name, step in steps:
            if name != "engine" or not self._on_kafka:  # the engine alone needs no broker
                await self._step(name, step)
        return self._column

    async def _step(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        began = time.perf_counter()
        sys.stderr.write(f"{self._column.title}: {name} ... ")
        sys.stderr.flush()
        try:
            await step()
        except (HubError, OSError, TimeoutError) as failure:
            self._column.failures[name] = str(failure) or type(failure).__name__
            sys.stderr.write(f"failed: {self._column.failures[name]}\n")
        else:
            sys.stderr.write(f"{time.perf_counter() - began:.0f} s\n")

    async def _describe(self) -> None:
        from ..kafka import INTAKE, describe_features, describe_partitions, describe_replicas

        features = await describe_features(self._local.cluster)
        replicas = await describe_replicas(self._local.cluster, INTAKE)
        fsync = "as the brokers are configured" if self._on_kafka else f"before every answer, on {self._local.filesystem()}"
        self._column.about |= {
            "Features": ", ".join(f"{name} {level}" for name, level in sorted(features.items()) if level),
            "fsync": fsync,
            "Replicas": str(replicas),
            "Engine partitions": str(await describe_partitions(self._local.cluster)),
            "Worker slots": str(SLOTS),
        }

    def _memory(self, name: str) -> None:
        self._add(name, "MiB", [self._local.memory_bytes() / 2**20], "hub bench all")

    def _add(self, name: str, unit: str, values: list[float], command: str) -> None:
        from ..bench import Figure

        self._column.add(Figure(name=name, unit=unit, values=values, command=command))

    async def _run(self, name: str) -> "tuple[list[Round], str]":
        """The rounds of a benchmark after a warm-up round, and its command. Raises HubError if a task did not complete."""
        from ..bench import BENCHMARKS, all_completed
        from ..client import Hub

        chosen = BENCHMARKS[name]
        tasks, rounds = max(1, int(chosen.tasks * self._share)), self._rounds or chosen.rounds
        async with Hub(self._local.cluster) as hub:
            await chosen.measure(hub, min(tasks, chosen.warm_up))
            measured = [await chosen.measure(hub, tasks) for _ in range(rounds)]
        if not all_completed(measured):
            raise HubError("Not every task completed exactly once.")
        return measured, f"hub bench {name} --tasks {tasks} --rounds {rounds}"

    async def _throughput(self) -> None:
        from ..bench import BENCHMARKS, rates

        before = await self._topic_bytes()
        rounds, command = await self._run("throughput")
        after = await self._topic_bytes()
        self._column.add(rates("Throughput", "tasks/s", rounds, command))
        if before is not None and after is not None:
            warm = min(rounds[0].tasks, BENCHMARKS["throughput"].warm_up)
            tasks = warm + sum(one.tasks for one in rounds)
            self._add("Disk", "bytes/task", [(after - before) / tasks], "hub bench all")
        self._memory("Memory, after the throughput")

    async def _idle(self) -> None:
        from ..bench import family, measure_idle, total

        seconds = IDLE_SECONDS if self._rounds is None else IDLE_SECONDS_QUICK
        await self._until_calm()
        groups = {child.role: family(child.process.pid) for child in self._local.children}
        use = total(await measure_idle(groups, seconds))
        self._add("Wake-ups, idle", "1/s", [use.wakeups_per_second], "hub bench idle")
        self._add("CPU, idle", "%", [use.cpu_percent], "hub bench idle")

    async def _until_calm(self) -> None:
        from ..bench import family, until_calm

        await until_calm([pid for child in self._local.children for pid in family(child.process.pid)])

    async def _topic_bytes(self) -> int | None:
        """Size of the hub's topics in bytes; None if the broker does not report it."""
        from ..kafka import describe_storage

        storage = await describe_storage(self._local.cluster)
        return sum(size for place, size in storage.sizes.items() if place.topic.startswith("hub.")) if storage.dirs else None

    async def _latency(self) -> None:
        from ..bench import percentiles

        rounds, command = await self._run("latency")
        self._column.add(percentiles("Latency, p50", 0.50, rounds, command))
        self._column.add(percentiles("Latency, p99", 0.99, rounds, command))

    async def _workflow(self, name: str, title: str) -> None:
        from ..bench import rates

        rounds, command = await self._run(name)
        self._column.add(rates(title, "steps/s", rounds, command))

    async def _delivery(self) -> None:
        from .bench_delivery import measure_delivery

        tasks, rounds = max(DELIVERY_TASKS_MIN, int(DELIVERY_TASKS * self._share)), self._rounds or ALONE_ROUNDS
        found = await measure_delivery(self._local, tasks, rounds)
        command = f"hub bench delivery --tasks {tasks} --rounds {rounds}"
        for name, unit, key in (
            ("Delivery, all events", "events/s", "events_per_second"),
            ("Delivery, spans", "spans/s", "spans_per_second"),
            ("Delivery, few events", "µs/task", "us_per_task"),
        ):
            self._add(name, unit, _values_of(found["spread"][key], rounds), command)

    async def _verify(self) -> None:
        from ..verify import verify

        report = await verify(self._local.cluster, require_all_ended=True)
        self._column.about["Checked"] = f"{report.tasks:,} tasks, {len(report.findings)} findings"
        if not report.ok:
            raise HubError(f"The checker has {len(report.findings)} findings; the first: {report.findings[0]}")

    async def _broker(self) -> None:
        from ..bench import measure_broker

        records, rounds = int(RECORDS * self._share), self._rounds or ALONE_ROUNDS
        found = await measure_broker(self._local.cluster, records, rounds)
        command = f"hub bench broker --tasks {records} --rounds {rounds}"
        for name, unit, key in (
            ("Broker, produce", "records/s", "records_per_second_produced"),
            ("Broker, consume", "records/s", "records_per_second_consumed"),
            ("Broker, transaction, p50", "ms", "p50_ms"),
        ):
            self._add(name, unit, _values_of(found["spread"][key], rounds), command)

    async def _engine(self) -> None:
        from ..bench import measure_engine

        tasks, rounds = int(ENGINE_TASKS * self._share), self._rounds or ALONE_ROUNDS
        found = measure_engine(tasks, rounds)
        command = f"hub bench engine --tasks {tasks} --rounds {rounds}"
        self._add("Engine", "µs/task", _values_of(found["spread"]["us_per_task"], rounds), command)

    async def _restart(self) -> None:
        """Runs last, because it leaves many waiting tasks in the hub."""
        from ..bench import fill
        from ..client import Hub

        live = int(LIVE_TASKS * self._share)
        before = self._local.memory_bytes()
        async with Hub(self._local.cluster) as hub:
            await fill(hub, live)
        await self._until_calm()
        self._add("Memory per live task", "bytes/task", [(self._local.memory_bytes() - before) / live], "hub bench all")
        self._memory(f"Memory, with {live:,} live tasks")
        seconds = [await self._local.restart_killed(self._home) for _ in range(self._rounds or RESTARTS)]
        self._add(f"Restart with {live:,} live tasks", "s", seconds, "hub bench all")


def _values_of(spread: dict[str, float], rounds: int) -> list[float]:
    """The values of all rounds: for three rounds the spread contains all of them, for one round the median is the value."""
    return [spread["min"], spread["median"], spread["max"]] if rounds == ALONE_ROUNDS else [spread["median"]]


__all__ = ["Suite", "bench_all"]
