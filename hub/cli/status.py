"""`hub status`: the running processes with their readiness, partitions and lag, queues, subscribers, sizes of topics, free disk
space."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import config
from . import render
from .shell import Json, run
from .tables import print_table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(status)


def status(
    json: Json = False,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="HUB_BOOTSTRAP",
            help="The broker (default: that of the hub in --data, else 127.0.0.1:9092).",
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="HUB_DATA", help="Data directory of a hub that `hub up` runs on this machine.")
    ] = config.DEFAULT_DATA,
) -> None:
    """Show all processes of the hub (role, process id, whether it is ready, partitions, lag), the tasks that wait in each queue,
    the lag of each subscriber and whether a delivery process is connected for it, the size of each topic, and the free disk
    space.

    Exit codes: 0 success; 2 the hub's topics do not exist; 3 no broker responds.
    """
    from ..runtime import read_run_file
    from ..runtime.cluster import cluster_at
    from ..runtime.status import gather_status

    supervised = read_run_file(data)
    address = bootstrap or (supervised["address"] if supervised else config.DEFAULT_BOOTSTRAP)
    if supervised is not None and supervised["address"] != address:
        supervised = None
    found = run(gather_status(cluster_at(address), supervised))
    if json:
        render.print_json(found)
        return
    many = "" if found["partitions"] == 1 else "s"
    print(f"hub at {found['address']}, {found['partitions']} partition{many}")
    columns = ("ROLE", "PID", "HOST", "STATE", "PARTITIONS", "LAG", "RESTARTS", "ABOUT")
    print_table(columns, [_row(process) for process in found["processes"]], text=True, shorten=("HOST", "PARTITIONS"))
    _print_queues(found["queues"])
    _print_subscribers(found["subscribers"])
    if found["malformed_rows"]:
        typer.echo(f"{found['malformed_rows']:,} records of hub.state cannot be decoded and are not shown.", err=True)
    print_storage(found["topics"], found["disk"])


def _print_subscribers(subscribers: list[dict[str, Any]]) -> None:
    if subscribers:
        print()
        states = {"disconnected": "no delivery process is connected"}
        rows = [
            (one["subscriber"], one["lag"], _age(one["lag_seconds"]), states.get(one["state"], one["state"]))
            for one in subscribers
        ]
        print_table(("SUBSCRIBER", "LAG", "LATE BY", "STATE"), rows, text=True)


def _print_queues(queues: list[dict[str, Any]]) -> None:
    if queues:
        print()
        rows = [(one["queue"], one["waiting"], _age(one["oldest_seconds"])) for one in queues]
        print_table(("QUEUE", "WAITING", "LONGEST"), rows, text=True)


def _age(seconds: float | None) -> str:
    return "" if seconds is None else render.duration(seconds)


def print_storage(topics: list[dict[str, Any]], disk: dict[str, Any]) -> None:
    """Print the known sizes of topics and of the fullest disk, and to stderr the brokers that did not report them."""
    if topics:
        print()
        print_table(("TOPIC", "SIZE"), [(one["topic"], render.size(one["bytes"])) for one in topics])
    if disk["usable_bytes"] is not None:
        print(f"\n{render.size(disk['usable_bytes'])} of {render.size(disk['total_bytes'])} are free on the broker's disk")
    if disk["unanswered"]:
        typer.echo(f"The sizes at {', '.join(disk['unanswered'])} are unknown: no response to DescribeLogDirs.", err=True)


def _row(process: dict[str, Any]) -> tuple[Any, ...]:
    about = process["about"]
    words = [str(about[key]) for key in ("data", "address") if about.get(key)]
    failing = about.get("failing", {})
    listed = {"tasks": about.get("tasks"), "subscribers": [one for one in about.get("subscribers", ()) if one not in failing]}
    words += [f"{key} {', '.join(names)}" for key, names in listed.items() if names]
    words += [f"{subscriber} fails: {why}" for subscriber, why in failing.items()]
    words += [f"{check}: {why}" for check, why in process["not_ready"].items() if not (check == "subscribers" and failing)]
    if "slots" in about:
        words.append(f"{about['slots']} slots")
    partitions = ", ".join(map(str, process["partitions"]))
    state = "not ready" if process["ready"] is False and process["state"] == "serving" else process["state"]
    return (
        *(process["role"], process["pid"], process["host"], state, partitions),
        *(process["lag"], process["restarts"], "; ".join(words)),
    )
