"""`hub task`: create, get, list, watch, cancel."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import TERMINAL_STATES, task_id_of_cloudevent

from ..errors import HubError
from .render import clock, duration, on_terminal, one_line, print_event, print_fields, print_json, print_table
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run, timed_out

if TYPE_CHECKING:
    from schemas import TaskReply

    from ..client import Hub, TaskHandle
    from ..client.lookup import Made
    from ..kafka import Cluster

#: After so long, somebody who waits gets the reason, where that is known (seconds).
HINT_SECONDS = 3.0

Root = Annotated[
    str | None, typer.Option("--root", metavar="ID", help="The id of the workflow's root, when ID is one of its steps.")
]
Source = Annotated[str | None, typer.Option("--source", metavar="SOURCE", help="The source of the CloudEvent whose id is given.")]


def register(app: typer.Typer) -> None:
    """Add `hub task` to the command line."""
    tasks = typer.Typer(no_args_is_help=True, help="Create tasks and workflows, look at them, watch them live, cancel them.")
    tasks.command("create")(create)
    tasks.command("get")(get)
    tasks.command("list")(list_tasks)
    tasks.command("watch")(watch)
    tasks.command("cancel")(cancel)
    app.add_typer(tasks, name="task")


def create(
    name: Annotated[str | None, typer.Argument(help="The name of the task, as its worker registered it.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", metavar="JSON|@FILE|-", help="The arguments: a JSON object, @file, or - for stdin.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE|-", help="A whole submission as JSON (a workflow too); the other options override it."
        ),
    ] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="The task's id; the same id again makes no second task.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key: the same key and arguments again make no second task.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Higher numbers are dispatched first.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue whose workers may take it.")] = None,
    start_after: Annotated[
        str | None, typer.Option(metavar="SECONDS|TIME", help="Not before so many seconds, or not before an RFC 3339 time.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="With --wait: wait at most so long.")] = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Submit a task, or a workflow from a file, and print its id once it is stored.

    Exit codes: 0 stored, or completed with --wait; 1 ended otherwise (failed, cancelled, expired, skipped, rejected);
    2 the submission cannot be; 3 no broker answers; 5 the time of --timeout is over and the task continues.
    """
    submission: dict[str, Any] = _object(file, "--file") if file is not None else {}
    given = {"name": name, "id": task_id, "idempotency_key": key, "priority": priority, "queue": queue}
    submission.update({field: value for field, value in given.items() if value is not None})
    if start_after is not None:
        submission["start_after"] = _seconds_or_time(start_after)
    if args is not None:
        submission["args"] = _arguments(args)
    if "name" not in submission:
        raise typer.BadParameter("missing task name: give one, or --file with a submission that has one.", param_hint="NAME")
    code = run(_create(bootstrap, submission, wait, timeout, as_json))
    raise typer.Exit(code)


async def _create(bootstrap: str, submission: dict[str, Any], wait: bool, timeout: float | None, as_json: bool) -> int:
    from ..client import Hub
    from ..runtime.cluster import cluster_at
    from ..service import ServiceTasks

    async with Hub(cluster_at(bootstrap)) as hub:
        handle = (await hub.submit_many([submission], reply=wait))[0]
        if not wait:
            print_json({"id": handle.id, "root": handle.root}) if as_json else print(handle.id)
            return 0
        tasks = ServiceTasks("hub task create")
        tasks.start(_hint(hub, handle), "hint")
        try:
            reply = await handle.outcome(timeout_seconds=timeout)
        except TimeoutError:
            raise timed_out(f"Task {handle.id} has not ended within {timeout:g} s; it continues.") from None
        finally:
            await tasks.cancel()
            if handle.warning is not None:
                typer.echo(f"Warning: {one_line(handle.warning)}.", err=True)
    if as_json:
        print_json(reply)
    elif reply.state == "completed":
        print(bytes(reply.result).decode() or "null")
    else:
        _print_reply(reply)
    return exit_code_of(reply.state)


async def _hint(hub: "Hub", handle: "TaskHandle") -> None:
    """Whoever waits for a task that nobody takes should not wait in the dark."""
    from ..runtime.cluster import cluster_at

    await asyncio.sleep(HINT_SECONDS)
    with contextlib.suppress(HubError):
        reply = await hub.get(handle.id, root=handle.root)
        if reply.state == "ready":
            typer.echo(await _why_ready(cluster_at(hub.bootstrap), reply), err=True)


async def _why_ready(cluster: "Cluster", reply: "TaskReply") -> str:
    """Why a task that is ready does not run, by its reply and by the rows of workers. Raises Unreachable, TopicMissing."""
    from ..runtime.status import names_served

    task = one_line(f"Task {reply.task} is ready, but")
    if reply.name not in await names_served(cluster):
        return f"{task} no live worker has a handler named {one_line(reply.name or '')}. `hub status` shows the workers."
    if reply.warning is not None:
        return f"{task} {one_line(reply.warning)}. `hub definitions list` shows the versions."
    return f"{task} the workers that have a handler for it are busy, or serve other queues. `hub status` shows the workers."


def _object(source: str, option: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for "-"."""
    import msgspec

    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return msgspec.json.decode(raw, type=dict[str, Any])
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror}.", param_hint=option) from None
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(f"{source} is not a JSON object: {error}.", param_hint=option) from None


def _arguments(text: str) -> dict[str, Any]:
    import msgspec

    if text == "-" or text.startswith("@"):
        return _object(text.removeprefix("@"), "--args")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(
            f"{text!r} is not a JSON object ({error}); write for example --args '{{\"order\": 1}}'.", param_hint="--args"
        ) from None


def _seconds_or_time(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def exit_code_of(state: str | None) -> int:
    """0 for a completed task, 1 for any other end."""
    return 0 if state == "completed" else EXIT_NOT_COMPLETED


def _print_reply(reply: "TaskReply") -> None:
    result = bytes(reply.result).decode() if reply.result else None
    error = f"{reply.error.type}: {reply.error.message}" if reply.error is not None else None
    print_fields(
        (
            ("task", reply.task),
            ("name", reply.name),
            ("state", reply.state or reply.kind),
            ("root", reply.root if reply.root != reply.task else None),
            ("attempt", reply.attempt or None),
            ("result", "(large: read it with `hub task watch --json`)" if reply.result_omitted else result),
            ("error", error),
            ("code", reply.code),
            ("reason", reply.reason),
            ("partition", reply.partition),
            ("log offset", reply.log_offset),
        )
    )


def get(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id, or that of the CloudEvent that made it.")],
    root: Root = None,
    source: Source = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Show a task as it is now: its state, its attempt, its result or error.

    Where no task has this id, the task is looked up that a CloudEvent of this id made; all of hub.events is read for that, unless
    --source says where the CloudEvent came from. Exit codes: 0 it is known; 1 it is unknown, has expired or was rejected; 3 no
    broker or no engine answers.
    """
    reply, why = run(_get_and_explain(bootstrap, task_id, root, source))
    if reply is None:
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if why is not None:
        typer.echo(why, err=True)
    if as_json:
        print_json(reply)
    elif reply.kind == "unknown":
        hint = "" if root else " If it is a step of a workflow, say the workflow's id with --root."
        typer.echo(f"Task {reply.task} is unknown or has expired.{hint}", err=True)
    else:
        _print_reply(reply)
    if reply.kind == "unknown":
        raise typer.Exit(EXIT_NOT_COMPLETED)


async def _get_and_explain(
    bootstrap: str, task_id: str, root: str | None, source: str | None
) -> tuple["TaskReply | None", str | None]:
    """What `_get` gives, and for a task that is ready why it does not run."""
    from ..runtime.cluster import cluster_at

    reply = await _get(bootstrap, task_id, root, source)
    if reply is None or reply.state != "ready":
        return reply, None
    with contextlib.suppress(HubError):  # the task is shown all the same
        return reply, await _why_ready(cluster_at(bootstrap), reply)
    return reply, None


async def _get(bootstrap: str, task_id: str, root: str | None, source: str | None) -> "TaskReply | None":
    """The task of this id, else the one that a CloudEvent of this id made; None, with a message on stderr, where that is
    refused or there are several."""
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
        typer.echo(f"{len(found)} CloudEvents have the id {one_line(task_id)}: give --source, or the id of a task.", err=True)
    return None if found else reply


def _answer_of(made: "Made") -> str:
    source = f" from {made.source}" if made.source is not None else ""
    if made.code is not None:
        return one_line(f"The submission{source} was refused ({made.code}): {made.reason}")
    return one_line(f"The submission{source} made the task {made.task}")


def list_tasks(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state, for example running or failed.")] = None,
    name: Annotated[str | None, typer.Option(metavar="GLOB", help="Only tasks of this name; * stands for anything.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--event-id", metavar="ID", help="Only tasks that a CloudEvent of this id made.")
    ] = None,
    source: Source = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """List the live tasks and those that ended lately, the newest first.

    Reads the hub's state from the topic hub.state, and hub.events with --event-id; nothing is asked of the engine. Exit codes:
    0 listed; 2 wrong usage; 3 no broker answers.
    """
    from ..core import LIVE
    from ..runtime.cluster import cluster_at
    from .listing import read_tasks

    if state is not None and state not in (states := {*LIVE, *TERMINAL_STATES}):
        raise typer.BadParameter(f"{state!r} is not a state; there are {', '.join(sorted(states))}.", param_hint="--state")
    if source is not None and event_id is None:
        raise typer.BadParameter("give --event-id with it: the id of the CloudEvent from that source.", param_hint="--source")
    found = run(read_tasks(cluster_at(bootstrap), state=state, name=name, event_id=event_id, source=source))
    shown = found.tasks[:limit]
    if as_json:
        print_json({"tasks": shown, "total": len(found.tasks), "malformed_rows": found.malformed})
        return
    rows = [
        (task.id, task.name, task.state, task.attempt or "", clock(task.since), duration(task.seconds), task.remark)
        for task in shown
    ]
    print_table(("ID", "NAME", "STATE", "ATTEMPT", "SINCE", "TOOK", "REMARK"), rows, state_column="STATE")
    if len(found.tasks) > len(shown):
        typer.echo(f"{len(found.tasks) - len(shown):,} more; see --limit.", err=True)
    if found.malformed:
        typer.echo(f"{found.malformed:,} records of hub.state cannot be read as tasks and are left out.", err=True)


def watch(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a task or of a workflow.")],
    root: Root = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Watch a task or a workflow live until it ends: a tree on a terminal, one line an event elsewhere.

    With --json every event is one line of JSON, a structured CloudEvent. Exit codes: 0 completed; 1 ended otherwise, or not
    known; 3 no broker or no engine answers.
    """
    raise typer.Exit(run(_watch(bootstrap, task_id, root, as_json)))


async def _watch(bootstrap: str, task_id: str, root: str | None, as_json: bool) -> int:
    from ..client import Hub
    from ..runtime.cluster import cluster_at
    from .tree import TreeView, follow

    view = TreeView(task_id)
    async with Hub(cluster_at(bootstrap)) as hub:
        if as_json:
            async for event in hub.watch(task_id, root=root):
                view.take(event)
                print_event(event, as_json=True)
        else:
            await follow(view, hub.watch(task_id, root=root), live=on_terminal())
    return exit_code_of(view.state)


def cancel(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a task or of a workflow.")],
    root: Root = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept on the events.")] = "",
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Ask that a task, or a whole workflow, ends. Returns when the request is stored; the end is an event of the task.

    Exit codes: 0 asked; 3 no broker answers.
    """

    async def ask() -> None:
        from ..client import Hub
        from ..runtime.cluster import cluster_at

        async with Hub(cluster_at(bootstrap)) as hub:
            await hub.cancel(task_id, root=root, reason=reason)

    run(ask())
    if as_json:
        print_json({"id": task_id, "requested": True})
    else:
        print(f"Cancellation of {task_id} was requested; see `hub task get {task_id}{f' --root {root}' if root else ''}`.")
