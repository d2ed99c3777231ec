"""`hub subscribers dlq`: the events that could not be delivered."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import MsgspecError, json

from schemas import one_line

from .configured import check_known, plan_of, time_text
from .render import print_fields, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from ..delivery.administration import Choice, Retried, StoredLetter

LISTED_MAX = 100
EVENT = "event's "
OF_EVENT = ("dlq_topic", "dlq_partition", "dlq_offset", "dlq_timestamp")
"""Reasons that are about the event's record on the log."""
Subscriber = Annotated[str, typer.Argument(metavar="ID", help="The id of the subscriber.")]
Partition = Annotated[int | None, typer.Option(min=0, help="The partition of one dead letter, as shown by the list.")]
Offset = Annotated[int | None, typer.Option(min=0, help="The offset of one dead letter, as shown by the list.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters, or all of --type.")]
Type = Annotated[str | None, typer.Option("--type", metavar="GLOB", help="Only these event types; example: 'task.*'.")]


def register(app: typer.Typer) -> None:
    """Add `dlq` to `hub subscribers`."""
    letters = typer.Typer(no_args_is_help=True, help="Show, retry and drop the dead letters of a subscriber.")
    letters.command("list")(list_letters)
    letters.command("show")(show)
    letters.command("retry")(retry)
    letters.command("drop")(drop)
    app.add_typer(letters, name="dlq")


def list_letters(
    subscriber: Subscriber,
    event_type: Type = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of dead letters.")] = LISTED_MAX,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """List the dead letters that were neither retried nor dropped, the oldest of each partition first.

    Exit codes: 0 success; 2 no such subscriber; 3 no broker responds.
    """
    found = run(_read(bootstrap, subscriber, _choice(event_type), limit))
    if as_json:
        print_json({"dead_letters": [_plain(one) for one in found]})
        return
    rows = [
        (*one.place, one.type, one.subject, one.reasons.get("dlq_failed_at"), one.reasons.get("dlq_attempts"), _remark(one))
        for one in found
    ]
    print_table(
        ("PARTITION", "OFFSET", "TYPE", "SUBJECT", "FAILED AT", "ATTEMPTS", "ERROR"), rows, text=True, shorten=("SUBJECT",)
    )
    if len(found) == limit:
        typer.echo(f"Only the first {limit:,} are listed; see --limit.", err=True)


def show(
    subscriber: Subscriber,
    partition: Partition = None,
    offset: Offset = None,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Show one dead letter: the reason with its traceback, and the headers and the value of the event.

    Exit codes: 0 success; 1 there is no such dead letter; 2 no such subscriber; 3 no broker responds.
    """
    if partition is None or offset is None:
        raise typer.BadParameter("specify --partition and --offset.", param_hint="--partition")
    found = run(_read(bootstrap, subscriber, _choice(None, (partition, offset)), 1))
    if not found:
        _report_none(subscriber)
    (letter,) = found
    if as_json:
        print_json({**_plain(letter), "value": _value(letter)})
        return
    reasons = [(f"{EVENT if name in OF_EVENT else ''}{name.removeprefix('dlq_')}", text) for name, text in letter.reasons.items()]
    place = (("partition", partition), ("offset", offset), ("written", time_text(letter.timestamp_ms)))
    print_fields((*place, *(one for one in reasons if one[0] != "traceback")))
    print()
    print_fields(_headers(letter).items())
    print(f"\n{json.encode(_value(letter)).decode()}")
    if trace := letter.reasons.get("dlq_traceback"):
        print("\n" + "\n".join(one_line(line) for line in trace.splitlines()))


def retry(
    subscriber: Annotated[str, typer.Argument(metavar="ID", help="The id of a subscriber in hub.toml.")],
    partition: Partition = None,
    offset: Offset = None,
    everything: All = False,
    event_type: Type = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Deliver dead letters again, to a fresh instance of the subscriber in this process; each is attempted once.

    It is the original record, with the same id, and `meta.replay` is false. Those that are delivered are removed from the list;
    those that fail again remain. A truncated dead letter cannot be retried. Exit codes: 0 all were delivered; 1 some were not, or
    there is none; 2 no such subscriber; 3 no broker responds; 130 interrupted with Ctrl-C.
    """
    choice = _chosen(partition, offset, everything, event_type)
    numbers = run(_retry(bootstrap, subscriber, choice))
    if not numbers:
        _report_none(subscriber)
    print(f"{numbers[True]:,} delivered, {numbers[False]:,} not delivered.")
    if numbers[False]:
        raise typer.Exit(EXIT_NOT_COMPLETED)


def drop(
    subscriber: Subscriber,
    partition: Partition = None,
    offset: Offset = None,
    everything: All = False,
    event_type: Type = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Remove dead letters from the list without delivering them.

    Their records are deleted when no other dead letter of their partition is before them, or by the retention of the topic. Exit
    codes: 0 dropped; 1 there is none; 2 no such subscriber; 3 no broker responds.
    """
    dropped = run(_drop(bootstrap, subscriber, _chosen(partition, offset, everything, event_type)))
    if not dropped:
        _report_none(subscriber)
    print(f"{dropped:,} dropped.")


def _report_none(subscriber: str) -> None:
    typer.echo(f"Subscriber {one_line(subscriber)} has no such dead letter.", err=True)
    raise typer.Exit(EXIT_NOT_COMPLETED)


def _choice(event_type: str | None, place: tuple[int, int] | None = None) -> "Choice":
    from ..delivery.administration import Choice

    return Choice(place, event_type)


def _chosen(partition: int | None, offset: int | None, everything: bool, event_type: str | None) -> "Choice":
    one = partition is not None or offset is not None
    if one == everything:
        raise typer.BadParameter("specify either --partition and --offset, or --all.", param_hint="--all")
    if everything:
        return _choice(event_type)
    if partition is None or offset is None:
        raise typer.BadParameter("--partition and --offset belong together.", param_hint="--partition")
    return _choice(event_type, (partition, offset))


async def _read(bootstrap: str, subscriber: str, choice: "Choice", limit: int) -> "list[StoredLetter]":
    from ..delivery.administration import LetterBox
    from ..runtime.cluster import cluster_at

    cluster, found = cluster_at(bootstrap), []
    await check_known(cluster, subscriber)
    async with aclosing(LetterBox(cluster, subscriber).letters(choice)) as letters:
        async for letter in letters:
            found.append(letter)
            if len(found) == limit:
                break
    return found


async def _retry(bootstrap: str, subscriber: str, choice: "Choice") -> Any:
    from ..delivery.administration import retry_letters
    from ..runtime.cluster import cluster_at

    return await retry_letters(cluster_at(bootstrap), plan_of(subscriber), choice, _report)


def _report(result: "Retried") -> None:
    from ..telemetry import masked

    if result.error is not None:
        place = "{}/{}".format(*result.letter.place)
        typer.echo(one_line(f"{place} {result.letter.type} {result.letter.subject}: {masked(result.error)}"), err=True)


async def _drop(bootstrap: str, subscriber: str, choice: "Choice") -> int:
    from ..delivery.administration import drop_letters
    from ..runtime.cluster import cluster_at

    cluster = cluster_at(bootstrap)
    await check_known(cluster, subscriber)
    return await drop_letters(cluster, subscriber, choice)


def _remark(letter: "StoredLetter") -> str:
    cut = "" if letter.cut_bytes is None else f"(truncated from {letter.cut_bytes:,} bytes) "
    return cut + letter.reasons.get("dlq_error", "")


def _headers(letter: "StoredLetter") -> dict[str, str]:
    return {name: (value or b"").decode(errors="replace") for name, value in letter.original.headers}


def _plain(letter: "StoredLetter") -> dict[str, Any]:
    partition, offset = letter.place
    return {
        "partition": partition,
        "offset": offset,
        "written": time_text(letter.timestamp_ms),
        "type": letter.type,
        "subject": letter.subject,
        "headers": _headers(letter),
        "reasons": letter.reasons,
        "truncated_from": letter.cut_bytes,
    }


def _value(letter: "StoredLetter") -> Any:
    """The value as JSON, as text if it is not."""
    value = letter.original.value
    try:
        return None if value is None else json.decode(value)
    except MsgspecError:
        return (value or b"").decode(errors="replace")
