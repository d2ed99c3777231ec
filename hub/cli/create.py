"""`hub task create`."""

import asyncio
import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import decoding_problem, one_line

from ..errors import HubError
from .outcome import DECISION_SECONDS, exit_code_of, print_reply, root_option, why_ready
from .render import print_json
from .shell import DEFAULT_BOOTSTRAP, Bootstrap, Json, run

if TYPE_CHECKING:
    from schemas import TaskReply

    from ..client import Hub, TaskHandle

#: After this time of waiting the reason is printed, if it is known (seconds).
HINT_SECONDS = 3.0


def create(
    name: Annotated[str | None, typer.Argument(help="The name of the task, as registered by its worker.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", metavar="JSON|@FILE|-", help="The arguments: a JSON object, @file, or - for stdin.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE|-", help="A complete submission as JSON, task or workflow; other options override it."
        ),
    ] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="The task's id. A repeated id creates no second task.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key. A repetition with the same arguments creates no second task.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Tasks with higher numbers are dispatched first.")] = None,
    queue: Annotated[str | None, typer.Option(help="The task is dispatched to workers that serve this queue.")] = None,
    start_after: Annotated[
        str | None, typer.Option(metavar="SECONDS|TIME", help="The earliest start: a delay in seconds, or an RFC 3339 time.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Maximum time to wait with --wait.")] = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Submit a task, or a workflow from a file, and print its id when it is admitted.

    Exit codes: 0 admitted, with --wait completed; 1 rejected, with --wait also failed, cancelled, expired or skipped; 2 the
    submission is invalid; 3 no broker responds; 5 --timeout expired, 130 interrupted with Ctrl-C (in both cases the task
    continues).
    """
    submission: dict[str, Any] = _object(file, "--file") if file is not None else {}
    given = {"name": name, "id": task_id, "idempotency_key": key, "priority": priority, "queue": queue}
    submission.update({field: value for field, value in given.items() if value is not None})
    if start_after is not None:
        submission["start_after"] = _seconds_or_time(start_after)
    if args is not None:
        submission["args"] = _arguments(args)
    if "name" not in submission:
        raise typer.BadParameter("missing task name: specify it, or --file with a submission that has one.", param_hint="NAME")
    if timeout is not None and not wait:
        raise typer.BadParameter("it requires --wait, whose duration it limits.", param_hint="--timeout")
    code = run(_create(bootstrap, submission, wait, timeout, as_json))
    raise typer.Exit(code)


async def _create(bootstrap: str, submission: dict[str, Any], wait: bool, timeout: float | None, as_json: bool) -> int:
    from ..client import Hub
    from ..client.submissions import checked
    from ..runtime.cluster import cluster_at

    checked(submission)  # before connecting: an invalid submission is reported even without a broker
    async with Hub(cluster_at(bootstrap)) as hub:
        handle = (await hub.submit_many([submission]))[0]
        try:
            if not wait:
                return await _print_admitted(hub, handle, as_json)
            reply = await _outcome(hub, handle, timeout)
        except asyncio.CancelledError:
            watch = f"hub task watch {handle.id}{root_option(handle.id, handle.root)}"
            typer.echo(f"Task {handle.id} continues; follow it with `{watch}`.", err=True)
            raise
    if as_json:
        print_json(reply)
    elif reply.state == "completed":
        print(bytes(reply.result).decode() or "null")
    else:
        print_reply(reply)
    return exit_code_of(reply.state)


async def _print_admitted(hub: "Hub", handle: "TaskHandle", as_json: bool) -> int:
    """Print the id when the engine has admitted the task, or when it has not responded within DECISION_SECONDS (the submission is
    stored). Raises TaskRejectedError."""
    from ..client import NoAnswerError, TaskRejectedError

    try:
        await hub.admission_of(handle, timeout_seconds=DECISION_SECONDS)
    except NoAnswerError:
        typer.echo(
            f"The submission is stored, but no engine has responded to it within {DECISION_SECONDS:g} s. See `hub status`.",
            err=True,
        )
    except TaskRejectedError as error:
        if as_json:
            print_json(error.reply)
            return error.exit_code
        raise
    _print_warning(handle)
    print_json({"id": handle.id, "root": handle.root}) if as_json else print(handle.id)
    return 0


def _print_warning(handle: "TaskHandle") -> None:
    """Print the engine's warning about an admitted task, if any."""
    if handle.warning is not None:
        typer.echo(f"Warning: {one_line(handle.warning)}.", err=True)


async def _outcome(hub: "Hub", handle: "TaskHandle", timeout: float | None) -> "TaskReply":
    """Wait for the end of the task. Raises WaitTimeoutError."""
    from ..service import ServiceTasks

    printed: list[str] = []

    def warn() -> None:
        if not printed and handle.warning is not None:
            printed.append(handle.warning)
            _print_warning(handle)

    tasks = ServiceTasks("hub task create")
    tasks.start(_hint(hub, handle, warn), "hint")
    try:
        return await handle.outcome(timeout_seconds=timeout)
    finally:
        await tasks.cancel()
        warn()


async def _hint(hub: "Hub", handle: "TaskHandle", warn: Callable[[], None]) -> None:
    """Print the engine's warning and the reason while the command waits for a task that no worker executes."""
    from ..runtime.cluster import cluster_at

    await asyncio.sleep(HINT_SECONDS)
    warn()
    with contextlib.suppress(HubError):
        reply = await hub.get(handle.id, root=handle.root)
        if reply.state == "ready":
            typer.echo(await why_ready(cluster_at(hub.bootstrap), reply), err=True)


def _object(source: str, option: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for "-"."""
    import msgspec

    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return msgspec.json.decode(raw, type=dict[str, Any])
    except OSError as error:
        raise typer.BadParameter(f"{source} cannot be read: {error.strerror}.", param_hint=option) from None
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(f"{source}: {decoding_problem(error)}.", param_hint=option) from None


def _arguments(text: str) -> dict[str, Any]:
    import msgspec

    if text == "-" or text.startswith("@"):
        return _object(text.removeprefix("@"), "--args")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(
            f"{text!r}: {decoding_problem(error)}; example: --args '{{\"order\": 1}}'.", param_hint="--args"
        ) from None


def _seconds_or_time(text: str) -> str | float:
    try:
        seconds = float(text)
    except ValueError:
        return text
    return seconds if math.isfinite(seconds) else text
