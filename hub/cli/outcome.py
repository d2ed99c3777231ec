"""Shared by the commands about tasks: a reply as text, exit codes, the reason why a task that is ready does not run."""

from typing import TYPE_CHECKING, Annotated

import typer

from schemas import one_line

from .render import print_fields
from .shell import EXIT_NOT_COMPLETED

if TYPE_CHECKING:
    from schemas import TaskReply

    from ..kafka import Cluster

#: Timeout for the engine's decision on a request (seconds).
DECISION_SECONDS = 3.0

STEP_HINT = " If it is a step of a workflow, specify the workflow's id with --root."

Root = Annotated[
    str | None, typer.Option("--root", metavar="ID", help="The id of the workflow, if the task is one of its steps.")
]


def root_option(task: str, root: str | None) -> str:
    """The option --root for a step of a workflow; empty if the task is the root."""
    return f" --root {root}" if root is not None and root != task else ""


def exit_code_of(state: str | None) -> int:
    """0 for a completed task, 1 for any other end."""
    return 0 if state == "completed" else EXIT_NOT_COMPLETED


def print_reply(reply: "TaskReply") -> None:
    """Print the non-empty fields of a reply."""
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


async def why_ready(cluster: "Cluster", reply: "TaskReply") -> str:
    """The reason why a task that is ready does not run, from its reply and the rows of workers. Raises Unreachable,
    TopicMissing."""
    from ..runtime.status import names_served

    task = one_line(f"Task {reply.task} is ready, but")
    if reply.name not in await names_served(cluster):
        return f"{task} no live worker has a handler named {one_line(reply.name or '')}. `hub status` shows the workers."
    if reply.warning is not None:
        return f"{task} {one_line(reply.warning)}. `hub definitions list` shows the versions."
    return f"{task} the workers that have a handler for it are busy, or serve other queues. `hub status` shows the workers."
