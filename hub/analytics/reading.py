"""Reads `hub.events`, and `hub.intake`, without Faust: to rebuild the view, for `hub stats`, and for dry runs."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from heapq import heappop, heappush

from msgspec import MsgspecError, json

from schemas import Event, MalformedEvent, decode_event
from schemas.reports import EventObserved

from ..kafka import EVENTS, INTAKE, Cluster, OffsetRange, StoredRecord, describe_offsets, find_offsets, read_all
from ..logs import Logger
from .book import Book
from .moments import moment_of
from .view import Shape, View

log = Logger(__name__)

MARGIN_MS = 60_000
"""How much later than its event a record may be written: a range is read from this time before its beginning."""
ALERT_TYPE = b"alert."
MILLISECOND = 1_000
NEVER_MS = 1 << 62

ReadProgress = Callable[[int, int], object]
"""Called with the number of records that were read, and that of all."""


async def read_into(view: View, cluster: Cluster, horizon_ms: int) -> None:
    """Take all stored events from the positions of the view on. Events before `horizon_ms` only count if they are about alerts.
    Raises HubError."""
    for partition, offsets in (await describe_offsets(cluster, EVENTS)).items():
        position = view.position(partition)
        begin = max(position.next, offsets.start)
        if not position.next <= offsets.end:  # the topic was recreated
            position.next, position.decided, begin = 0, -1, offsets.start
        async for record in read_all(cluster, EVENTS, partition, begin):
            take_record(view, partition, record, horizon_ms)
        position.next = max(position.next, offsets.end)


def take_record(view: View, partition: int, record: StoredRecord, horizon_ms: int = 0) -> None:
    """Take one record of `hub.events`. One that is not an event is skipped."""
    old = record.timestamp_ms < horizon_ms
    if old:
        view.begin(horizon_ms * MILLISECOND)
    if old and not any(name == "ce_type" and (value or b"").startswith(ALERT_TYPE) for name, value in record.headers):
        view.skip(partition, record.offset)
        return
    try:
        event = decode_event(record.value, record.headers)
    except MalformedEvent as error:
        log.debug("not an event", action="analytics_record_skipped", partition=partition, offset=record.offset, why=str(error))
        view.skip(partition, record.offset)
        return
    view.take(partition, record.offset, event, book_only=old)


async def undecided_alerts(cluster: Cluster, decided: Mapping[int, int]) -> dict[str, str]:
    """The types of events about alerts that were reported to `hub.intake` and not decided yet, by the name of the alert.

    `decided`: by partition the offset of the latest decided report. Raises HubError."""
    found: dict[str, str] = {}
    for partition, offsets in (await describe_offsets(cluster, INTAKE)).items():
        begin = max(offsets.start, decided.get(partition, -1) + 1)
        if begin >= offsets.end:
            continue
        async for record in read_all(cluster, INTAKE, partition, begin):
            report = _alert_report(record)
            if report is not None:
                found[report.entity.removeprefix("alert/")] = report.event
    return found


def _alert_report(record: StoredRecord) -> EventObserved | None:
    if ("ce_type", b"event.observed") not in [tuple(header) for header in record.headers]:
        return None
    try:
        report = json.decode(record.value or b"", type=EventObserved)
    except MsgspecError:
        return None
    return report if report.entity.startswith("alert/") and report.event in ("alert.fired", "alert.resolved") else None


async def ranges(cluster: Cluster, start_ms: int, end_ms: int | None) -> dict[int, OffsetRange]:
    """The offsets of the events of a time, with a margin; by partition, without empty ones. Raises HubError."""
    present = await describe_offsets(cluster, EVENTS)
    begins = await find_offsets(cluster, EVENTS, start_ms)
    ends = {} if end_ms is None else await find_offsets(cluster, EVENTS, end_ms + MARGIN_MS)
    found = {}
    for partition, offsets in present.items():
        begin, end = begins.get(partition), ends.get(partition)
        if begin is not None and begin < (last := offsets.end if end is None else end):
            found[partition] = OffsetRange(begin, last)
    return found


async def events_in(cluster: Cluster, partition: int, offsets: OffsetRange) -> AsyncGenerator[Event, None]:
    """The events of a range of a partition; records that are not events are skipped. Raises HubError."""
    async with aclosing(aiter(read_all(cluster, EVENTS, partition, offsets.start))) as records:  # type: ignore[type-var]
        async for record in records:
            if record.offset >= offsets.end:
                return
            try:
                yield decode_event(record.value, record.headers)
            except MalformedEvent:
                continue


async def count_range(
    cluster: Cluster, take: Callable[[Event], object], span_ms: tuple[int, int], events_max: int, progress: ReadProgress
) -> int:
    """Pass the events of a time to `take`, partition by partition, but only the last `events_max`. Returns the time in ms from
    which on all were passed. Raises HubError."""
    places = await ranges(cluster, *span_ms)
    total, read, start = sum(place.length for place in places.values()), 0, span_ms[0] * MILLISECOND
    for partition, place in places.items():
        kept = max(1, events_max * place.length // total) if total > events_max else place.length
        first = True
        async for event in events_in(cluster, partition, place._replace(start=place.end - kept)):
            at, read = moment_of(event), read + 1
            if first and kept < place.length:
                start = max(start, at)
            first = False
            if span_ms[0] * MILLISECOND <= at <= span_ms[1] * MILLISECOND:
                take(event)
            progress(read, min(total, events_max))
    return start // MILLISECOND


async def read_book(cluster: Cluster, since_ms: int, progress: ReadProgress) -> Book:
    """The alerts and silences in the events from a time on. Raises HubError."""
    view = View(Shape())
    places = await ranges(cluster, since_ms, None)
    total, read = sum(place.length for place in places.values()), 0
    for partition, place in places.items():
        async for record in read_all(cluster, EVENTS, partition, place.start):
            read += 1
            take_record(view, partition, record, NEVER_MS)
            progress(read, total)
    return view.book


async def merged(cluster: Cluster, places: Mapping[int, OffsetRange]) -> AsyncIterator[Event]:
    """The events of several partitions in the order of their times; those of one partition remain in their order. Raises
    HubError."""
    sources = {partition: events_in(cluster, partition, offsets) for partition, offsets in places.items()}
    heads: list[tuple[int, int, Event]] = []
    latest = dict.fromkeys(sources, 0)

    async def advance(partition: int) -> None:
        if (event := await anext(sources[partition], None)) is not None:
            latest[partition] = max(latest[partition], moment_of(event))
            heappush(heads, (latest[partition], partition, event))

    try:
        for partition in sources:
            await advance(partition)
        while heads:
            _, partition, event = heappop(heads)
            yield event
            await advance(partition)
    finally:
        for source in sources.values():
            await source.aclose()
