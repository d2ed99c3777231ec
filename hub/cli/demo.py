"""`hub demo`: the fulfilment of an order, shown live."""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .render import duration, on_terminal
from .shell import EXIT_NOT_COMPLETED, OptionalBootstrap, run
from .tables import print_table

if TYPE_CHECKING:
    from ..client import Hub
    from .tree import TreeView

FULFILMENT_SECONDS = 60.0
SHOWN_ORDER = 1042


def register(app: typer.Typer) -> None:
    """Add `hub demo` to the command line."""
    app.command("demo")(demo)


def demo(
    end: Annotated[
        bool, typer.Option("--exit", help="Exit when the order has ended, instead of keeping the hub running.")
    ] = False,
    bootstrap: OptionalBootstrap = None,
) -> None:
    """Run an example workflow and show it live: parallel steps, a retry after a failure, a delayed step, progress reports.

    Starts a new hub in a temporary directory, or uses the one at --bootstrap. Exit codes: 0 all steps ended as expected; 1 a step
    did not; 3 no broker or no engine responds at --bootstrap.
    """
    raise typer.Exit(run(_demo(bootstrap, end)))


async def _demo(bootstrap: str | None, end: bool) -> int:
    from ..demo import EXPECTED

    began = time.monotonic()
    async with _hub_for_demo(bootstrap) as address:
        view = await _fulfil(address)
        wrong = problems(view, EXPECTED)
        _summarise(view, wrong, time.monotonic() - began)
        _show_the_way(view.task_id, address, ends=end and bootstrap is None)
        if not end:
            print("\nThe hub keeps running. Press Ctrl-C to stop it.", flush=True)
            await asyncio.Event().wait()
    return EXIT_NOT_COMPLETED if wrong else 0


@contextlib.asynccontextmanager
async def _hub_for_demo(bootstrap: str | None) -> AsyncIterator[str]:
    """Start a worker for the demo's tasks, and a hub unless `bootstrap` is given; returns the address."""
    from ..demo import REGISTRY
    from .local_hub import LocalHub

    async with LocalHub(bootstrap) as local:
        if bootstrap is None:
            print("Starting a broker with an embedded engine, and a worker ...", flush=True)
            await local.start_broker()
        await local.start_worker(REGISTRY)
        yield local.bootstrap


async def _fulfil(address: str) -> "TreeView":
    """Publish the order and follow it until it ends, for at most FULFILMENT_SECONDS. Raises NoAnswerError if no engine
    responds."""
    import uuid_utils

    from ..client import Hub
    from ..demo import order_submission, publish_order
    from ..runtime.cluster import cluster_at
    from .tree import TreeView, follow

    task_id = f"order-{SHOWN_ORDER}-{str(uuid_utils.uuid7())[-8:]}"
    view = TreeView(task_id)
    cluster = cluster_at(address)
    async with Hub(cluster) as hub:
        await publish_order(cluster, order_submission(task_id, SHOWN_ORDER))
        await hub.get(task_id)  # stored after the order on the same partition: once the engine responds, it has the order
        print(f"Published task.created for {task_id} to hub.intake with a plain Kafka producer.\n", flush=True)
        try:
            async with asyncio.timeout(FULFILMENT_SECONDS):
                await follow(view, hub.watch(task_id), live=on_terminal())
        except TimeoutError:
            print(f"The order has not ended within {FULFILMENT_SECONDS:g} s.", flush=True)
        await _print_result(hub, task_id)
    return view


async def _print_result(hub: "Hub", task_id: str) -> None:
    reply = await hub.get(task_id)
    if reply.result:
        print(f"\nResult: {bytes(reply.result).decode()}", flush=True)


def problems(view: "TreeView", expected: dict[str, tuple[str, int]]) -> list[str]:
    """The differences from `expected` (state and number of attempts by key), one sentence each."""
    steps = {task.label: task for task in view.steps()}
    wrong = [] if view.state == "completed" else [f"The order is {view.state or 'unknown'}, not completed."]
    for key, (state, attempts) in expected.items():
        task = steps.get(key)
        if task is None:
            wrong.append(f"The step {key} was not created.")
        elif (task.state, task.attempt) != (state, attempts):
            wrong.append(f"The step {key} is {task.state} after {task.attempt} attempts, not {state} after {attempts}.")
    return wrong


def _summarise(view: "TreeView", wrong: list[str], seconds: float) -> None:
    print()
    rows = [(task.label, task.name, task.state, task.attempt, duration(task.seconds())) for task in view.steps()]
    print_table(("STEP", "TASK", "STATE", "ATTEMPTS", "TOOK"), rows, state_column="STATE")
    print()
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print(f"All steps ended as expected, in {duration(seconds)}.")


def _show_the_way(task_id: str, address: str, *, ends: bool) -> None:
    """Print commands to inspect the hub, or how to keep it running if it ends now."""
    called = Path(sys.argv[0])
    hub = str(called) if called.name == "hub" and not shutil.which("hub") else "hub"
    if ends:
        print(f"\nThis hub stops now. To inspect a running one, use `{hub} demo`, which keeps it running and lists commands.")
        return
    print("\nCommands to inspect the hub while it is running:")
    for command in (
        f"task get {task_id}",
        "task list",
        f"events tail --task {task_id} --from beginning --no-follow",
        "events show task.retry_scheduled",
        "verify",
    ):
        where = "" if command.startswith("events show") else f" --bootstrap {address}"
        print(f"  {hub} {command}{where}")
