"""`hub verify`: checks the guarantees from the topics."""

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
        bool, typer.Option("--require-all-ended", help="Also report tasks that have not ended.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="List all checks and the data that each reads, without checking.")
    ] = False,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Check the hub's guarantees from its topics alone: order, exactly once, leases, dependencies, state.

    The hub may be running. Exit codes: 0 no findings; 1 findings; 2 the broker has no hub; 3 no broker responds.
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
    """A callback that shows the topic being read on an animated line; None unless `shown`."""
    if not shown:
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("connecting") as status:
        yield lambda topic, count, _: status.update(f"reading {topic}: {count:,} records")
