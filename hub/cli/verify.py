"""`hub verify`: the checker."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from .render import on_terminal, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from ..verify import VerificationReport

REACH_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add `hub verify` to the command line."""
    app.command("verify")(verify)


def verify(
    require_all_ended: Annotated[
        bool, typer.Option("--require-all-ended", help="A task that has not ended is a finding, too.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="List everything that can be checked, and what each check reads; check nothing.")
    ] = False,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Check everything that the hub promises, from its topics alone: order, exactly once, leases, dependencies, state.

    The hub may be running. Exit codes: 0 nothing was found; 1 something was; 2 there is no hub on this broker; 3 no broker
    answers.
    """
    if explain:
        _explain(as_json)
        return
    with _progress(shown=on_terminal() and not as_json) as progress:
        report = run(_check(bootstrap, require_all_ended, progress))
    if as_json:
        print_json(report.to_dict())
    else:
        print(report.render())
    if not report.ok:
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _explain(as_json: bool) -> None:
    from ..verify import INVARIANTS

    rows = [{"id": row.id, "sentence": row.sentence, "reads": ["events", *row.reads]} for row in INVARIANTS.values()]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("ID", "READS", "SENTENCE"), [(row["id"], ", ".join(row["reads"]), row["sentence"]) for row in rows], text=True
        )


async def _check(
    bootstrap: str, require_all_ended: bool, progress: Callable[[str, int, int], None] | None
) -> "VerificationReport":
    from ..kafka import wait_until_reachable
    from ..runtime.cluster import cluster_at
    from ..verify import verify as check

    cluster = cluster_at(bootstrap)
    await wait_until_reachable(cluster, REACH_SECONDS)
    return await check(cluster, require_all_ended=require_all_ended, progress=progress)


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """What is read at the moment, on a line that moves; nothing where nobody looks."""
    if not shown:
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("connecting") as status:
        yield lambda topic, count, _: status.update(f"reading {topic}: {count:,} records")
