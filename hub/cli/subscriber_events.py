"""`hub subscribers test` and `replay`: events that are delivered by the command itself, to a fresh instance of a subscriber."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import one_line

from ..errors import ConfigurationError, HubError
from .configured import dead_letter_configs, plan_of, time_ms, time_text
from .example_events import example_record, record_in
from .render import cell_text, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from ..delivery import SubscriberPlan
    from ..delivery.administration import LoggedRecord, ReplayProgress, ReplayRange
    from ..kafka import Cluster

PROGRESS_SECONDS = 1.0
Subscriber = Annotated[str, typer.Argument(metavar="ID", help="The id of a subscriber in hub.toml.")]
Type = Annotated[str | None, typer.Option("--type", metavar="GLOB", help="Only these types; example: 'task.*'.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("test")(try_event)
    app.command("replay")(replay)


# hub subscribers test


def try_event(
    subscriber: Subscriber,
    event: Annotated[
        str | None,
        typer.Option("--event", metavar="TYPE", help="The example of this type (default: one that it receives)."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE|-", help="A structured CloudEvent as JSON, as printed by `hub events tail --json`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which rules let the event pass or stop it.")] = False,
) -> None:
    """Deliver one event to a fresh instance of a subscriber, in this process and with its configured settings.

    The event really gets to its destination. The rules that let it pass, or stop it, are printed first: types, handler, filter,
    sample. It is attempted once, and its state is empty at the beginning and discarded. No broker is needed. Exit codes: 0
    delivered, or with --dry-run it would be; 1 a rule stops it, or it cannot be delivered; 2 no such subscriber, event type or
    file, or an invalid configuration.
    """
    if event is not None and file is not None:
        raise typer.BadParameter("--event and --file exclude each other.", param_hint="--event")
    plan = plan_of(subscriber)
    record = _record_of(plan, event, file)
    if not _print_rules(plan, record):
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if not dry_run:
        run(_deliver(plan, record), plugins=True)


def _record_of(plan: "SubscriberPlan", event: str | None, file: str | None) -> "LoggedRecord":
    if file is not None:
        try:
            return record_in(sys.stdin.read() if file == "-" else Path(file).read_text(), "--file")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--file: {file} cannot be read: {error}") from None
    if event is not None:
        from .events import check_type

        check_type(event, "--event", whole=True)
        return example_record(event)
    from schemas import CATALOGUE

    from ..delivery.administration import explain

    for event_type in CATALOGUE:
        record = example_record(event_type)
        if all(rule.passes for rule in explain(plan, record.headers, record.key)):
            return record
    return example_record(next(iter(CATALOGUE)))


def _print_rules(plan: "SubscriberPlan", record: "LoggedRecord") -> bool:
    """Print the rules that were applied to the event; whether all let it pass."""
    from ..delivery.administration import explain

    rules = explain(plan, record.headers, record.key)
    rows = [(rule.name, "passes" if rule.passes else "stops", rule.reason) for rule in rules]
    print_table(("RULE", "RESULT", "REASON"), rows, text=True)
    return rules[-1].passes


async def _deliver(plan: "SubscriberPlan", record: "LoggedRecord") -> None:
    """Deliver the event, and print the result. Exits with 1 if it cannot be delivered."""
    from ..delivery.administration import DestinationUnavailable, FailedItems, StateInMemory, once, opened
    from ..delivery.selection import Selection

    sink, began = FailedItems(), time.monotonic()
    error: BaseException | str | None = None
    dropped = 0
    try:
        async with opened(once(plan), sink, StateInMemory()) as instance:
            item = await instance.feed(Selection(plan.plugin, plan.settings, plan.filter).route(record.headers), record)
            await instance.finish()
            error = sink.errors.get(item)
            dropped = instance.counters.dropped
    except DestinationUnavailable as unavailable:
        error = f"the destination is unavailable: {unavailable}"
    except Exception as failure:
        error = f"the instance could not be opened: {type(failure).__name__}: {failure}"
    if error is not None:
        typer.echo(one_line(f"Not delivered: {_reason(error)}"), err=True)
        raise typer.Exit(EXIT_NOT_COMPLETED)
    outcome = "Dropped by the handler" if dropped else "Delivered"
    print(f"{outcome} after {time.monotonic() - began:.2f} s.")


def _reason(error: BaseException | str) -> str:
    from ..telemetry import masked

    return masked(error if isinstance(error, str) else f"{type(error).__name__}: {error}")


# hub subscribers replay


def replay(
    subscriber: Subscriber,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only events from this time on (default: all that are stored).")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only events before this time.")] = None,
    event_type: Type = None,
    task: Annotated[str | None, typer.Option(metavar="ID", help="Only this task, or this workflow and its steps.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the matching events by type.")] = False,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Deliver stored events again, to a fresh instance of a subscriber in this process; `meta.replay` is true.

    The types and the filter of the subscriber apply, with its order, retries and dead letters, and its sample and maximum age.
    The offsets of the running subscriber do not change, and it may run meanwhile. The replay ends at the present end of the log.
    TIME is an RFC 3339 time, or a duration before now, such as 2h; it is compared with the timestamps of records. Exit codes: 0
    success; 1 some events could not be delivered; 2 no such subscriber, or it skips replays; 3 no broker responds; 130
    interrupted with Ctrl-C.
    """
    if event_type is not None:
        from .events import check_type

        check_type(event_type, "--type")
    plan = plan_of(subscriber)
    wanted = _range(start, end, event_type, task)
    if not dry_run and plan.delivery.replay == "skip":
        raise ConfigurationError(f'Subscriber {subscriber} skips replayed events: its delivery has replay = "skip".')
    summary = run(_replay(bootstrap, plan, wanted, dry_run), plugins=True)
    print_json(summary) if as_json else _print_summary(summary)
    if summary.get("failed"):
        raise typer.Exit(EXIT_NOT_COMPLETED)


def _range(start: str | None, end: str | None, event_type: str | None, task: str | None) -> "ReplayRange":
    from ..delivery.administration import ReplayRange

    first = None if start is None else time_ms(start, "--from")
    last = None if end is None else time_ms(end, "--to")
    if first is not None and last is not None and first >= last:
        raise typer.BadParameter("it must be after --from.", param_hint="--to")
    return ReplayRange(first, last, event_type, task)


async def _observe(cluster: "Cluster", subscriber: str, wanted: "ReplayRange", count: int) -> None:
    """Put the replay on the log, as `subscriber.replayed`."""
    from schemas.events import SubscriberReplayed

    from ..delivery import IntakeObservations, Observation

    begin, end = (None if one is None else time_text(one) for one in (wanted.from_ms, wanted.to_ms))
    try:
        await IntakeObservations(cluster).put([Observation(subscriber, SubscriberReplayed(count=count, begin=begin, end=end))])
    except HubError as error:
        typer.echo(one_line(f"The replay is not on the log: {error}"), err=True)


async def _replay(bootstrap: str, plan: "SubscriberPlan", wanted: "ReplayRange", dry_run: bool) -> dict[str, Any]:
    """Replay or count, and return the summary."""
    from ..delivery.administration import count_matching, replay_to_dead_letters
    from ..runtime.cluster import cluster_at

    cluster, shown, began = cluster_at(bootstrap), Shown(), time.monotonic()
    if dry_run:
        progress = await count_matching(cluster, plan, wanted, on_progress=shown.update)
        counters: dict[str, int] = {}
    else:
        progress = await replay_to_dead_letters(cluster, plan, wanted, dead_letter_configs(), on_progress=shown.update)
        found = progress.counters
        names = ("delivered", "dropped", "retried", "dead_lettered", "skipped", "sampled", "too_old", "malformed")
        counters = {name: getattr(found, name) for name in names} | {"failed": progress.failed}
        await _observe(cluster, plan.config.id, wanted, found.delivered)
    return {
        "subscriber": plan.config.id,
        "dry_run": dry_run,
        "read": progress.read,
        "matching": progress.matching.total(),
        "by_type": dict(sorted(progress.matching.items())),
        "not_events": progress.malformed,
        **counters,
        "seconds": round(time.monotonic() - began, 3),
    }


class Shown:
    """Shows the progress on stderr, about once in PROGRESS_SECONDS."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PROGRESS_SECONDS

    def update(self, progress: "ReplayProgress") -> None:
        """Show the progress, if it is due."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + PROGRESS_SECONDS
        counters = progress.counters
        text = (
            f"{progress.percent:.0f} %: {progress.read:,} records read, {progress.matching.total():,} matching, "
            f"{counters.delivered:,} delivered, {progress.failed:,} failed"
        )
        outages = f"; waiting for the destination: {one_line(counters.outages[0]['reason'])}" if counters.outages else ""
        typer.echo(text + outages, err=True)


def _print_summary(summary: dict[str, Any]) -> None:
    print_table(("EVENT TYPE", "MATCHING"), list(summary["by_type"].items()))
    verb = "would be delivered" if summary["dry_run"] else "matched"
    print(f"{summary['matching']:,} of {summary['read']:,} records {verb}.")
    parts = [
        f"{summary[name]:,} {cell_text(text)}"
        for name, text in (
            ("delivered", "delivered"),
            ("dropped", "dropped by the handler"),
            ("sampled", "not in the sample"),
            ("too_old", "too old"),
            ("dead_lettered", "dead-lettered"),
            ("skipped", "skipped after errors"),
        )
        if summary.get(name)
    ]
    if parts:
        print(f"{', '.join(parts)}.")
