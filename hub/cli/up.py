"""`hub up`: runs a complete hub as child processes of a supervisor."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import config
from .analytics import configured_analytics
from .forked import run_forked
from .processes import (
    AdvertisedHost,
    HealthHost,
    LogFormat,
    Parent,
    checked_subscribers,
    ensure_configured_topics,
    health_address,
    pushed_metrics,
)
from .render import on_terminal

if TYPE_CHECKING:
    from ..runtime import ChildSpec, CommandLine, Process, Supervisor

CHILD_WAIT_SECONDS = 60.0
KILL_AFTER_SECONDS = 15.0
"""Time after the workers' grace time before processes are killed."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(up)


def up(
    data: Annotated[Path | None, typer.Option(help="Directory of the log and of snapshots (default ./hub-data).")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="A Kafka cluster to use, host:port[,host:port] (default: the embedded broker).")
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the embedded broker listens on.")] = config.DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded broker; 0: any free port.")
    ] = config.DEFAULT_PORT,
    advertised_host: AdvertisedHost = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Engine partitions of a new hub (default: 1; on a Kafka cluster 16).")
    ] = None,
    worker: Annotated[
        list[str] | None, typer.Option(metavar="MODULE:REGISTRY", help="Start a worker for this registry of tasks (repeatable).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes per --worker.")] = 1,
    slots: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent tasks per worker process.")] = 64,
    lease_seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds without heartbeats after which a worker is considered lost.")
    ] = 10.0,
    grace_seconds: Annotated[float, typer.Option(min=0, help="Seconds for running tasks to end when a worker drains.")] = 30.0,
    subscriber: Annotated[
        list[str] | None,
        typer.Option(help="Subscriber to run: a plugin or module:Class (repeatable; default: those of hub.toml, or console)."),
    ] = None,
    analytics: Annotated[bool, typer.Option("--analytics", help="Evaluate the rules of hub.toml, and report alerts.")] = False,
    no_subscribers: Annotated[bool, typer.Option("--no-subscribers", help="Run no subscribers.")] = False,
    engines: Annotated[
        int, typer.Option(min=1, help="Number of engine processes; if more than one, none runs in the broker's process.")
    ] = 1,
    separate_engine: Annotated[
        bool, typer.Option("--separate-engine", help="Run the engine in a separate process, not in the broker's.")
    ] = False,
    flush: Annotated[
        str, typer.Option(help="always: writes are acknowledged after fsync; interval:<ms>: fsync at intervals; os: no fsync.")
    ] = "always",
    health_host: HealthHost = config.DEFAULT_HOST,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the health pages and metrics of all processes (default 9464); 0: none."),
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="Minimum level of log records: debug, info, warning or error.", envvar="HUB_LOG_LEVEL")
    ] = "warning",
    log_format: LogFormat = "text",
    parent: Parent = 0,
) -> None:
    """Run a complete hub: broker, engine, delivery and workers. Restarts processes that die. Ctrl-C drains and stops all of
    them."""
    from ..child_process import die_with_parent
    from ..runtime import (
        CommandLine,
        Fleet,
        HealthOptions,
        Process,
        Supervisor,
        check_registries,
        make_launcher,
        make_listener,
        run_process,
    )
    from ..service import ServiceTasks
    from ..telemetry import configure_logging

    if parent:
        die_with_parent(parent)
    configure_logging("up", log_level, log_format=log_format)
    data_dir = data or (None if bootstrap else config.DEFAULT_DATA)
    children: list[ChildSpec] = []
    address = bootstrap
    if not bootstrap:
        listener = make_listener(host, advertised_host)
        address = listener.address(port) if port else None
    inside = not bootstrap and not separate_engine and engines == 1
    health = health_address(health_host, config.DEFAULT_HEALTH_PORT if health_port is None else health_port)
    push = pushed_metrics()
    common: dict[str, Any] = {"log_level": log_level, "log_format": log_format}
    common |= {"health_reported": True} if health or push else {"health_port": 0}
    if not bootstrap:
        broker = {"data": data_dir, "port": port, "flush": flush, "partitions": partitions, "engine": inside}
        role = "broker+engine" if inside else "broker"
        children.append(_spec(role, 0, 1, CommandLine("broker", (), {**broker, **listener._asdict(), **common})))
    common["wait"] = CHILD_WAIT_SECONDS
    if not inside:
        command = CommandLine("engine", (), {"data": data_dir, **common})
        children += [_spec("engine", number, engines, command) for number in range(engines)]
    options = {"slots": slots, "lease_seconds": lease_seconds, "grace_seconds": grace_seconds}
    places = [tasks for tasks in worker or [] for _ in range(workers)]
    for number, tasks in enumerate(places):
        children.append(_spec("worker", number, len(places), CommandLine("worker", (tasks,), {**options, **common})))
    if not no_subscribers:
        children.append(_spec("delivery", 0, 1, CommandLine("delivery", (), {"subscriber": subscriber or [], **common})))
    if analytics:
        folder = data_dir / "analytics" if data_dir else None
        children.append(_spec("analytics", 0, 1, CommandLine("analytics", (), {"data": folder, **common})))
    fleet = Fleet(children, address, data_dir, drain_seconds=grace_seconds + KILL_AFTER_SECONDS)
    launcher = make_launcher({spec.role for spec in children}, run_forked)  # before anything else is imported or started
    check_registries(worker or [])
    if not no_subscribers:
        checked_subscribers(subscriber)
    if analytics:
        configured_analytics()
    if bootstrap:
        _prepare(bootstrap, partitions)

    async def main(process: Process) -> None:
        tasks = ServiceTasks("hub up")
        tasks.start(_say_farewell(process, grace_seconds), "farewell")
        try:
            await Supervisor(fleet, _tell, launcher).run(process)
        finally:
            await tasks.cancel()

    run_process("up", main, uvloop=False, health=HealthOptions(health), push=push)


async def _say_farewell(process: "Process", grace_seconds: float) -> None:
    await process.stopping.wait()
    line = f"Draining: running tasks have up to {grace_seconds:g} s to finish. Press Ctrl-C again to stop immediately."
    with contextlib.suppress(OSError):  # stderr is closed
        typer.echo(line, err=True)


def _prepare(bootstrap: str, partitions: int | None) -> None:
    """Create missing topics on a Kafka cluster, check existing ones, and report altered settings."""
    for change in ensure_configured_topics(bootstrap, partitions).altered:
        typer.echo(f"altered {change}", err=True)


def _spec(role: str, number: int, among: int, command: "CommandLine") -> "ChildSpec":
    from ..runtime import ChildSpec

    return ChildSpec(role if among == 1 else f"{role}-{number + 1}", role, command)


def _tell(supervisor: "Supervisor") -> None:
    """Print the running processes, the next command to use, and the line `ready` for programs."""
    from ..runtime import print_line

    about = supervisor.describe()
    where = f", data in {about['data']}" if about["data"] else ""
    lines = [f"hub is up at {about['address']}{where}"]
    for one in about["processes"]:
        more = {"worker": "tasks", "delivery": "subscribers", "analytics": "rules"}.get(one["role"], "partitions")
        what = ", ".join(str(part) for part in one.get(more) or [] if part not in one.get("failing", {}))
        lines.append(f"  {one['name']:<14} pid {one['pid']:<8} {more + ' ' + what if what else ''}".rstrip())
        lines += [f"    {subscriber} fails and is retried: {why}" for subscriber, why in one.get("failing", {}).items()]
    tasks = next((one["tasks"] for one in about["processes"] if one.get("tasks")), None)
    option = "" if about["address"] == config.DEFAULT_BOOTSTRAP else f" --bootstrap {about['address']}"
    if about["health"]:
        lines.append(f"health and metrics: http://{about['health']}/status, /readyz, /metrics")
    if tasks:
        lines.append(f"submit a task (with arguments: --args '{{...}}'): hub task create {tasks[0]}{option}")
    else:
        lines.append(f"start a worker: hub worker app:tasks{option}")
    lines.append("Ctrl-C drains and stops")
    if not on_terminal():
        lines.append(f"ready up {json.dumps(about)}")
    print_line("\n".join(lines))
