"""`hub up`: the whole hub from one command, as child processes under a supervisor."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import config
from .processes import AdvertisedHost, checked_subscribers, ensure_configured_topics
from .render import on_terminal

if TYPE_CHECKING:
    from ..runtime import ChildSpec, Listener, Process, Supervisor

CHILD_WAIT_SECONDS = "60"
KILL_AFTER_SECONDS = 15.0
"""Beyond the grace time of the workers."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(up)


def up(
    data: Annotated[Path | None, typer.Option(help="Directory of the log and of snapshots (default ./hub-data).")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="A Kafka cluster to work on, host:port[,host:port]; without it the embedded broker.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the embedded broker listens on.")] = config.DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = config.DEFAULT_PORT,
    advertised_host: AdvertisedHost = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Engine partitions of a new hub (default: 1, on Kafka 16).")
    ] = None,
    worker: Annotated[list[str] | None, typer.Option(metavar="MODULE:REGISTRY", help="Tasks to run (repeatable).")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes for each --worker.")] = 1,
    slots: Annotated[int, typer.Option(min=1, help="Tasks that run at once, per worker process.")] = 64,
    lease_seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds of silence after which a worker counts as dead.")
    ] = 10.0,
    grace_seconds: Annotated[float, typer.Option(min=0, help="Seconds that running tasks have to end in a drain.")] = 30.0,
    subscriber: Annotated[
        list[str] | None,
        typer.Option(help="Subscriber to run (repeatable; default: those of hub.toml, or console): a plugin, or module:Class."),
    ] = None,
    no_subscribers: Annotated[bool, typer.Option("--no-subscribers", help="Run none.")] = False,
    engines: Annotated[int, typer.Option(min=1, help="Engine processes; more than one run apart from the broker.")] = 1,
    separate_engine: Annotated[bool, typer.Option("--separate-engine", help="Run the engine apart from the broker.")] = False,
    flush: Annotated[str, typer.Option(help="When a write is answered: always (on disk), interval:<ms>, os.")] = "always",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.", envvar="HUB_LOG_LEVEL")] = "warning",
) -> None:
    """Start broker, engine, delivery and workers; restart what dies; Ctrl-C drains them all."""
    from ..runtime import Fleet, Process, Supervisor, check_registries, make_listener, run_process
    from ..service import ServiceTasks
    from ..telemetry import configure_logging

    configure_logging("up", log_level)
    check_registries(worker or [])
    if not no_subscribers:
        checked_subscribers(subscriber)
    data_dir = data or (None if bootstrap else config.DEFAULT_DATA)
    children: list[ChildSpec] = []
    address = bootstrap
    if bootstrap:
        _prepare(bootstrap, partitions)
    else:
        listener = make_listener(host, advertised_host)
        address = listener.address(port) if port else None
    inside = not bootstrap and not separate_engine and engines == 1
    logs = ("--log-level", log_level)
    if not bootstrap:
        children.append(_broker(data_dir, listener, port, partitions, flush, inside, logs))
    target = ("--bootstrap", address or _address(), "--wait", CHILD_WAIT_SECONDS, *logs)
    if not inside:
        folder = ("--data", str(data_dir)) if data_dir else ()
        children += [_spec("engine", number, engines, ("engine", *target, *folder)) for number in range(engines)]
    options = ("--slots", str(slots), "--lease-seconds", str(lease_seconds), "--grace-seconds", str(grace_seconds))
    places = [tasks for tasks in worker or [] for _ in range(workers)]
    for number, tasks in enumerate(places):
        children.append(_spec("worker", number, len(places), ("worker", tasks, *target, *options)))
    if not no_subscribers:
        chosen = [part for one in subscriber or [] for part in ("--subscriber", one)]
        children.append(_spec("delivery", 0, 1, ("delivery", *target, *chosen)))
    fleet = Fleet(children, address, data_dir, drain_seconds=grace_seconds + KILL_AFTER_SECONDS)

    async def main(process: Process) -> None:
        tasks = ServiceTasks("hub up")
        tasks.start(_say_farewell(process, grace_seconds), "farewell")
        try:
            await Supervisor(fleet, _tell).run(process)
        finally:
            await tasks.cancel()

    run_process("up", main, uvloop=False)


async def _say_farewell(process: "Process", grace_seconds: float) -> None:
    await process.stopping.wait()
    line = f"Draining: running tasks have up to {grace_seconds:g} s to finish. Press Ctrl-C again to stop at once."
    with contextlib.suppress(OSError):  # nobody reads
        typer.echo(line, err=True)


def _address() -> str:
    from ..runtime import ADDRESS

    return ADDRESS


def _prepare(bootstrap: str, partitions: int | None) -> None:
    """The topics on a Kafka cluster: create what is missing, check what is there, say what was altered."""
    for change in ensure_configured_topics(bootstrap, partitions).altered:
        typer.echo(f"altered {change}", err=True)


def _spec(role: str, number: int, among: int, arguments: tuple[str, ...]) -> "ChildSpec":
    from ..runtime import ChildSpec

    return ChildSpec(role if among == 1 else f"{role}-{number + 1}", role, arguments)


def _broker(
    data_dir: Path | None,
    listener: "Listener",
    port: int,
    partitions: int | None,
    flush: str,
    inside: bool,
    logs: tuple[str, ...],
) -> "ChildSpec":
    hosts = ("--host", listener.host, "--advertised-host", listener.advertised_host)
    arguments = ("broker", "--data", str(data_dir), *hosts, "--port", str(port), "--flush", flush, *logs)
    if partitions is not None:
        arguments = (*arguments, "--partitions", str(partitions))
    if inside:
        arguments = (*arguments, "--engine")
    return _spec("broker+engine" if inside else "broker", 0, 1, arguments)


def _tell(supervisor: "Supervisor") -> None:
    """What runs, what to do next, and the line for machines."""
    from ..runtime import print_line

    about = supervisor.describe()
    where = f", data in {about['data']}" if about["data"] else ""
    lines = [f"hub is up at {about['address']}{where}"]
    for one in about["processes"]:
        more = {"worker": "tasks", "delivery": "subscribers"}.get(one["role"], "partitions")
        what = ", ".join(str(part) for part in one.get(more) or [] if part not in one.get("failing", {}))
        lines.append(f"  {one['name']:<14} pid {one['pid']:<8} {more + ' ' + what if what else ''}".rstrip())
        lines += [f"    {subscriber} fails and is tried again: {why}" for subscriber, why in one.get("failing", {}).items()]
    tasks = next((one["tasks"] for one in about["processes"] if one.get("tasks")), None)
    option = "" if about["address"] == config.DEFAULT_BOOTSTRAP else f" --bootstrap {about['address']}"
    if tasks:
        lines.append(f"submit a task: hub task create {tasks[0]}{option}")
    else:
        lines.append(f"no worker yet: hub worker app:tasks{option}")
    lines.append("Ctrl-C drains and ends")
    if not on_terminal():
        lines.append(f"ready up {json.dumps(about)}")
    print_line("\n".join(lines))
