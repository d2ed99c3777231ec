"""`hub task`: create, get, list, watch, cancel."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from schemas import TERMINAL_STATES, one_line, task_id_of_cloudevent

from ..errors import HubError
from .cancel import cancel
from .create import create
from .outcome import STEP_HINT, Root, exit_code_of, print_reply, why_ready
from .render import clock, duration, on_terminal, print_event, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from schemas import TaskReply

    from ..client.lookup import Made

Source = Annotated[str | None, typer.Option("--source", metavar="SOURCE", help="The source of the CloudEvent with the given id.")]


COLUMNS = ("ID", "NAME", "STATE", "ATTEMPT", "SINCE", "TOOK", "REMARK")


def register(app: typer.Typer) -> None:
    """Add `hub task` to the command line."""
    tasks = typer.Typer(no_args_is_help=True, help="Create, show, list, watch and cancel tasks and workflows.")
    tasks.command("create")(create)
    tasks.command("get")(get)
    tasks.command("list")(list_tasks)
    tasks.command("watch")(watch)
    tasks.command("cancel")(cancel)
    app.add_typer(tasks, name="task")


def get(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the task, or of the CloudEvent that created it.")],
    root: Root = None,
    source: Source = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Show the present state of a task, with its attempt and its result or error.

    If no task has this id, the task is shown that a CloudEvent with this id created. This reads all of hub.events, unless
    --source specifies the source of the CloudEvent. Exit codes: 0 success; 1 the task is unknown, has expired or was rejected;
    3 no broker or no engine responds.
    """
    reply, why = run(_get_and_explain(bootstrap, task_id, root, source))
    if reply is None:
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if why is not None:
        typer.echo(why, err=True)
    if as_json:
        print_json(reply)
    elif reply.kind == "unknown":
        typer.echo(f"Task {reply.task} is unknown or has expired.{'' if root else STEP_HINT}", err=True)
    else:
        print_reply(reply)
    if reply.kind == "unknown":
        raise typer.Exit(EXIT_NOT_COMPLETED)


async def _get_and_explain(
    bootstrap: str, task_id: str, root: str | None, source: str | None
) -> tuple["TaskReply | None", str | None]:
    """The result of `_get`, and for a task that is ready the reason why it does not run."""
    from ..runtime.cluster import cluster_at

    reply = await _get(bootstrap, task_id, root, source)
    if reply is None or reply.state != "ready":
        return reply, None
    with contextlib.suppress(HubError):  # without the reason the task is still shown
        return reply, await why_ready(cluster_at(bootstrap), reply)
    return reply, None


async def _get(bootstrap: str, task_id: str, root: str | None, source: str | None) -> "TaskReply | None":
    """The task with this id, else the one that a CloudEvent with this id created. None, with a message on stderr, if that was
    rejected or there are several."""
    from ..client import Hub
    from ..runtime.cluster import cluster_at

    async with Hub(cluster_at(bootstrap)) as hub:
        reply = await hub.get(task_id if source is None else task_id_of_cloudevent(source, task_id), root=root)
        if reply.kind != "unknown" or root is not None:
            return reply
        found = await hub.find(task_id, source=source)
        if len(found) == 1 and found[0].code is None and found[0].task is not None:
            return await hub.get(found[0].task, root=found[0].root)
    for made in found:
        typer.echo(_answer_of(made), err=True)
    if len(found) > 1:
        typer.echo(f"{len(found)} CloudEvents have the id {one_line(task_id)}: specify --source, or the id of a task.", err=True)
    return None if found else reply


def _answer_of(made: "Made") -> str:
    source = f" from {made.source}" if made.source is not None else ""
    if made.code is not None:
        return one_line(f"The submission{source} was rejected ({made.code}): {made.reason}")
    return one_line(f"The submission{source} created the task {made.task}")


def list_tasks(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state, for example running or failed.")] = None,
    name: Annotated[str | None, typer.Option(metavar="GLOB", help="Only tasks with this name; * matches any text.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--event-id", metavar="ID", help="Only tasks created by a CloudEvent with this id.")
    ] = None,
    source: Source = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of tasks.")] = 50,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """List live and recently ended tasks, the newest first.

    Reads the topic hub.state, and with --event-id also hub.events; does not require a running engine. Exit codes: 0 success; 2
    invalid usage; 3 no broker responds.
    """
    from ..core import LIVE
    from ..runtime.cluster import cluster_at
    from .listing import read_tasks

    if state is not None and state not in (states := {*LIVE, *TERMINAL_STATES}):
        raise typer.BadParameter(f"{state!r} is not a state; must be one of {', '.join(sorted(states))}.", param_hint="--state")
    if source is not None and event_id is None:
        raise typer.BadParameter("it requires --event-id, the id of the CloudEvent with this source.", param_hint="--source")
    found = run(read_tasks(cluster_at(bootstrap), state=state, name=name, event_id=event_id, source=source))
    shown = found.tasks[:limit]
    if as_json:
        print_json({"tasks": shown, "total": len(found.tasks), "malformed_rows": found.malformed})
        return
    rows = [
        (task.id, task.name, task.state, task.attempt or "", clock(task.since)[:8], duration(task.seconds), task.remark)
        for task in shown
    ]
    print_table(COLUMNS, rows, state_column="STATE", text=True, shorten=("NAME", "ID"))
    if len(found.tasks) > len(shown):
        typer.echo(f"{len(found.tasks) - len(shown):,} more; see --limit.", err=True)
    if found.malformed:
        typer.echo(f"{found.malformed:,} records of hub.state cannot be decoded as tasks and are not shown.", err=True)


def watch(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a task or of a workflow.")],
    root: Root = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Watch a task or a workflow live until it ends: as a tree on a terminal, otherwise one line per event.

    With --json each line is a structured CloudEvent. Exit codes: 0 the task completed; 1 it ended in another state, or is
    unknown; 3 no broker or no engine responds.
    """
    raise typer.Exit(run(_watch(bootstrap, task_id, root, as_json)))


async def _watch(bootstrap: str, task_id: str, root: str | None, as_json: bool) -> int:
    from ..client import Hub, TaskUnknownError
    from ..runtime.cluster import cluster_at
    from .tree import TreeView, follow

    view = TreeView(task_id)
    async with Hub(cluster_at(bootstrap)) as hub:
        try:
            if as_json:
                async for event in hub.watch(task_id, root=root):
                    view.take(event)
                    print_event(event, as_json=True)
            else:
                await follow(view, hub.watch(task_id, root=root), live=on_terminal())
        except TaskUnknownError as error:
            typer.echo(one_line(f"{error}{'' if root else STEP_HINT}"), err=True)
    return exit_code_of(view.state)
