"""`hub events`: follows the log, and shows the catalogue of event types."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from fnmatch import fnmatchcase
from heapq import merge
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas import one_line

from ..errors import HubError
from .fields import print_struct
from .render import print_event, print_fields, print_json
from .shell import DEFAULT_BOOTSTRAP, EXIT_NOT_COMPLETED, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from schemas import Event

    from ..kafka import Begin, Cluster, PartitionReader, StoredRecord, Transport
    from ..service import ServiceTasks

QUEUED_MAX = 10_000
LAST_EVENTS = 10
"""Number of events that `tail --no-follow` prints without --limit."""
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 2.0
SEVERITIES = {5: "debug", 9: "info", 13: "warn", 17: "error"}


class Start(StrEnum):
    """Where `tail` begins."""

    beginning = "beginning"
    end = "end"


def register(app: typer.Typer) -> None:
    """Add `hub events` to the command line."""
    events = typer.Typer(no_args_is_help=True, help="Follow the events of the hub; show the catalogue of event types.")
    events.command("tail")(tail)
    events.command("list")(list_types)
    events.command("show")(show)
    app.add_typer(events, name="events")


def tail(
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="GLOB", help="Only these types; examples: 'task.*', 'workflow.failed'.")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="ID", help="Only this task, or this workflow and its steps.")] = None,
    start: Annotated[
        Start, typer.Option("--from", help="Begin with the first stored event, or with the next new one.")
    ] = Start.end,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of events; with --no-follow, the last ones are printed.")
    ] = None,
    follow: Annotated[
        bool, typer.Option(help="Wait for new events, or print the last ones (10, or --limit) and stop at the end of the log.")
    ] = True,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Print events when they are committed, one per line, in order per task.

    With --json each line is a structured CloudEvent. With --no-follow stored events are printed: the last ones, or all with
    --from beginning; otherwise it waits for new events, also of a task that does not exist yet. Ends after --limit events, at
    the end of the log with --no-follow, or with Ctrl-C. Exit codes: 0 success; 1 the task is unknown or has expired (with
    --no-follow); 2 no event type matches --type; 3 no broker responds, or none has responded for a minute; 130 interrupted with
    Ctrl-C.
    """
    if event_type is not None:
        check_type(event_type, "--type")
    printed, known = run(_tail(bootstrap, event_type, task, start, limit, follow, as_json))
    if not known:
        typer.echo(one_line(f"Task {task} is unknown or has expired."), err=True)
        raise typer.Exit(EXIT_NOT_COMPLETED)
    if not printed and not follow:
        typer.echo("No matching events in hub.events.", err=True)


def check_type(pattern: str, option: str, *, whole: bool = False) -> None:
    """Raise BadParameter for a pattern that matches no event type; with `whole`, for a name that is not one."""
    from schemas import CATALOGUE

    if pattern not in CATALOGUE and (whole or not any(fnmatchcase(name, pattern) for name in CATALOGUE)):
        raise _no_such_type(pattern, option)


def _no_such_type(name: str, option: str) -> typer.BadParameter:
    from difflib import get_close_matches

    from schemas import CATALOGUE

    families = dict.fromkeys(f"{known.partition('.')[0]}.*" for known in CATALOGUE)
    close = get_close_matches(name, [*CATALOGUE, *(families if "*" in name else ())], 1)
    hint = f" Did you mean {close[0]}?" if close else " See `hub events list`."
    return typer.BadParameter(f"unknown event type {name!r}.{hint}", param_hint=option)


async def _tail(
    bootstrap: str, event_type: str | None, task: str | None, start: Start, limit: int | None, follow: bool, as_json: bool
) -> tuple[int, bool]:
    """Print the events. Returns their number, and whether the task is known (true if events were printed, or without a task)."""
    from ..runtime.cluster import cluster_at
    from .state_rows import is_known

    printed, cluster = 0, cluster_at(bootstrap)
    async with aclosing(_asked_for(cluster, event_type, task, start, limit, follow)) as events:
        async for event in events:
            print_event(event, as_json=as_json)
            printed += 1
            if printed == limit:
                break
    return printed, follow or task is None or printed > 0 or await is_known(cluster, task)


async def _asked_for(
    cluster: "Cluster", event_type: str | None, task: str | None, start: Start, limit: int | None, follow: bool
) -> AsyncGenerator["Event", None]:
    """The matching events. While following, an unknown task is reported to stderr."""
    from ..service import ServiceTasks, no_log

    if not follow and start is Start.end:
        for event in await last_events(cluster, limit or LAST_EVENTS, event_type=event_type, task=task):
            yield event
        return
    looking, begun = ServiceTasks("hub events", no_log), asyncio.Event()
    if follow and task is not None:
        looking.start(_report_unknown(cluster, task, begun), "is-known")
    try:
        async with aclosing(read_events(cluster, from_beginning=start is Start.beginning, follow=follow, begun=begun)) as events:
            async for event in events:
                if fits(event, event_type, task):
                    yield event
    finally:
        await looking.wait(CLOSE_SECONDS)  # a connection that is being opened is not cut off
        await looking.cancel()


async def _report_unknown(cluster: "Cluster", task: str, begun: asyncio.Event) -> None:
    """Report an unknown task when following has begun, so that no event after the report is missed."""
    from .state_rows import is_known

    await begun.wait()
    while True:
        try:
            known = await is_known(cluster, task)
            break
        except HubError:  # the readers of the events wait, or raise it
            await asyncio.sleep(RETRY_SECONDS)
    if not known:
        typer.echo(one_line(f"Task {task} is not known yet. Waiting for its events."), err=True)


def fits(event: "Event", event_type: str | None, task: str | None) -> bool:
    """Whether an event matches the options."""
    if event_type is not None and not fnmatchcase(event.type, event_type):
        return False
    return task is None or task in (event.subject, event.rootid)


class Skipped:
    """Reports records that are not events to stderr: at most one line in ten seconds, and their number at the end."""

    def __init__(self) -> None:
        from ..throttle import LogThrottle

        self._throttle = LogThrottle()
        self._count = self._reported = 0

    def add(self, place: str, error: Exception) -> None:
        """Count a record, and report it unless another one was reported recently."""
        self._count += 1
        if self._throttle.admit("skipped") is not None:
            self._reported = self._count
            typer.echo(f"Skipped {place}, which is not an event of this hub: {error}", err=True)

    def close(self) -> None:
        """Report the total number, if not all of them were reported individually."""
        if self._count > self._reported:
            typer.echo(f"Skipped {self._count:,} records in total that are not events of this hub.", err=True)


async def read_events(
    cluster: "Cluster", *, from_beginning: bool, follow: bool, begun: asyncio.Event | None = None
) -> AsyncGenerator["Event", None]:
    """Committed events of all partitions, in order per partition: up to the end of the log, or with `follow` until cancelled,
    also across restarts of the broker; `begun` is then set when no later event can be missed. Records that are not events are
    skipped and reported to stderr.

    Raises Unreachable, TopicMissing."""
    from schemas import MalformedEvent, decode_event

    from ..kafka import EVENTS, KafkaTransport, RecordReader, StoredRecord
    from ..service import ServiceTasks, no_log

    queue: asyncio.Queue[tuple[int, StoredRecord] | None] = asyncio.Queue(QUEUED_MAX)
    transport, skipped = KafkaTransport(cluster), Skipped()
    partitions = to_begin = await transport.describe_partitions()

    async def begin(reader: RecordReader) -> int:
        nonlocal to_begin
        offset = await (reader.start_offset() if from_beginning else reader.end_offset())
        to_begin -= 1
        if not to_begin and begun is not None:
            begun.set()
        return offset

    async def read(partition: int) -> None:
        reading = _records(transport, partition, begin if follow else None, cluster.client_id_of("events"))
        async with aclosing(reading) as records:
            async for record in records:
                await queue.put((partition, record))
        await queue.put(None)

    readers = ServiceTasks("hub events", no_log)
    for partition in range(partitions):
        readers.start(read(partition), f"events-{partition}")
    try:
        while partitions:
            item = await _next(queue, readers)
            if item is None:
                partitions -= 1
                continue
            partition, record = item
            try:
                yield decode_event(record.value, record.headers)
            except MalformedEvent as error:
                skipped.add(f"{EVENTS}-{partition} offset {record.offset}", error)
    finally:
        skipped.close()
        readers.request_cancel()
        await readers.wait(5)


async def _records(
    transport: "Transport", partition: int, begin: "Begin | None", client_id: str
) -> AsyncGenerator["StoredRecord", None]:
    """The records of a partition: with `begin` from the offset that it returns, until cancelled; else all up to its end."""
    from ..kafka import EVENTS, follow

    if begin is None:
        async for record in transport.read_all(EVENTS, partition):
            yield record
        return
    async with aclosing(follow(transport, EVENTS, partition, begin, client_id=client_id)) as batches:
        async for records in batches:
            for record in records:
                yield record


async def last_events(cluster: "Cluster", number: int, *, event_type: str | None, task: str | None) -> list["Event"]:
    """The last `number` matching events of all partitions, sorted by time; those of one partition remain in their order.

    Raises Unreachable, TopicMissing."""
    from ..kafka import EVENTS, PartitionReader, describe_partitions

    skipped, found = Skipped(), []
    try:
        for partition in range(await describe_partitions(cluster)):
            async with PartitionReader(cluster) as reader:
                await reader.open(EVENTS, partition, 0)
                found.append(await _last_of(reader, f"{EVENTS}-{partition}", number, event_type, task, skipped))
    finally:
        skipped.close()
    return list(merge(*found, key=lambda event: event.time))[-number:]


async def _last_of(
    reader: "PartitionReader", place: str, number: int, event_type: str | None, task: str | None, skipped: Skipped
) -> list["Event"]:
    """The last `number` matching events of one partition; reads growing ranges backwards from the end until there are enough."""
    first, end = await reader.start_offset(), await reader.end_offset()
    found: deque[Event] = deque(maxlen=number)
    window, upper = 4 * number, end
    while upper > first and len(found) < number:
        lower = max(first, upper - window)
        earlier = [event async for event in _between(reader, lower, upper, place, skipped) if fits(event, event_type, task)]
        found.extendleft(reversed(earlier[-(number - len(found)) :]))
        window, upper = 8 * window, lower
    return list(found)


async def _between(reader: "PartitionReader", lower: int, upper: int, place: str, skipped: Skipped) -> AsyncIterator["Event"]:
    from schemas import MalformedEvent, decode_event

    reader.seek(lower)
    while reader.position < upper:
        for record in await reader.read(1000, 20):
            if record.offset >= upper:
                return
            try:
                yield decode_event(record.value, record.headers)
            except MalformedEvent as error:
                skipped.add(f"{place} offset {record.offset}", error)


async def _next(queue: "asyncio.Queue[Any]", readers: "ServiceTasks") -> Any:
    """The next item. Raises the error of a reader that has failed."""
    return queue.get_nowait() if queue.qsize() else await readers.unless_failed(queue.get())


def list_types(as_json: Json = False) -> None:
    """List all event types, and when each is emitted."""
    from schemas import CATALOGUE

    rows = [
        {
            "type": row.type,
            "entity": row.entity,
            "severity": SEVERITIES[row.severity],
            "terminal": row.terminal,
            "since": row.since,
            "when": row.when,
        }
        for row in CATALOGUE.values()
    ]
    if as_json:
        print_json(rows)
        return
    table = [(row["type"], row["entity"], row["severity"], "ends" if row["terminal"] else "", row["when"]) for row in rows]
    print_table(("TYPE", "ENTITY", "SEVERITY", "", "WHEN"), table, text=True)


def show(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type, for example task.completed.")],
    as_json: Json = False,
) -> None:
    """Show an event type: when it is emitted, and the meaning of each field of its data.

    With --json: the JSON Schema of the data.

    Exit codes: 0 success; 2 unknown type.
    """
    from schemas import CATALOGUE
    from schemas.contract import json_schema

    row = CATALOGUE.get(event_type)
    if row is None:
        raise _no_such_type(event_type, "TYPE")
    schema = json_schema(f"events/{event_type}")
    if as_json:
        print_json(schema)
        return
    print_fields(
        (
            ("type", row.type),
            ("when", row.when),
            ("data", schema["description"]),
            ("entity", row.entity),
            ("severity", SEVERITIES[row.severity]),
            ("ends the task", "yes" if row.terminal else "no"),
            ("since", row.since),
        ),
        wrapped=True,
    )
    print()
    print_struct(row.data)
