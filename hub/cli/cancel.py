"""`hub task cancel`."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas import one_line

from .outcome import DECISION_SECONDS, STEP_HINT, Root, root_option
from .render import print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run

if TYPE_CHECKING:
    from ..client import TaskRejectedError


def cancel(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a task or of a workflow.")],
    root: Root = None,
    reason: Annotated[str, typer.Option(help="The reason, which is recorded in the events.")] = "",
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Cancel a task or a whole workflow. Returns when the engine has accepted the request; running tasks may end later.

    Exit codes: 0 the request was accepted; 1 the task is unknown or has ended; 2 the request is invalid; 3 no broker responds.
    """
    raise typer.Exit(run(_cancel(bootstrap, task_id, root, reason, as_json)))


async def _cancel(bootstrap: str, task_id: str, root: str | None, reason: str, as_json: bool) -> int:
    from ..client import Hub, NoAnswerError, TaskRejectedError
    from ..runtime.cluster import cluster_at

    said = {"id": task_id, "requested": True}
    try:
        async with Hub(cluster_at(bootstrap)) as hub:
            reply = await hub.cancel_confirmed(task_id, root=root, reason=reason, timeout_seconds=DECISION_SECONDS)
        said["state"] = reply.state
        what = f"Task {task_id} is cancelled" if reply.state == "cancelled" else f"Cancellation of {task_id} was requested"
    except NoAnswerError:
        what = f"The request is stored, but no engine has responded to it within {DECISION_SECONDS:g} s"
    except TaskRejectedError as error:
        if error.exit_code != EXIT_NOT_COMPLETED:  # nothing was sent
            raise
        if error.code != "already_cancelling":
            return _print_not_cancelled(error, root, as_json)
        what = f"Task {task_id} is already being cancelled"
    if as_json:
        print_json(said)
    else:
        print(one_line(f"{what}; see `hub task get {task_id}{root_option(task_id, root)}`."))
    return 0


def _print_not_cancelled(error: "TaskRejectedError", root: str | None, as_json: bool) -> int:
    if as_json:
        print_json({"id": error.task, "requested": False, "code": error.code, "reason": error.reason})
        return EXIT_NOT_COMPLETED
    if error.code == "already_ended":
        why = "has already ended"
    else:
        why = "is unknown or has expired" if error.code == "unknown_task" else f"cannot be cancelled: {error.reason}"
    hint = STEP_HINT if error.code == "unknown_task" and root is None else ""
    typer.echo(one_line(f"Task {error.task} {why}.{hint}"), err=True)
    return EXIT_NOT_COMPLETED
