"""Reads live and recently ended tasks from `hub.state`, as rows of a list."""

from datetime import datetime
from fnmatch import fnmatchcase

from msgspec import Struct

from schemas import MalformedRecord, printable

from ..client.lookup import find_made
from ..core import EndedRow, TaskRow, decode_row
from ..kafka import Cluster, KafkaTransport, describe_partitions
from .state_rows import latest_rows


class ListedTask(Struct, kw_only=True):
    """One line of the list. `since`: time of its end, or of its creation if it is live; `seconds`: duration of its last
    attempt."""

    id: str
    name: str
    state: str
    attempt: int
    partition: int
    root: str | None
    since: str
    live: bool
    seconds: float | None = None
    remark: str = ""


class Listing(Struct, kw_only=True):
    """The tasks that were found, the newest first. `malformed`: number of records of `hub.state` that cannot be decoded as
    tasks."""

    tasks: list[ListedTask]
    malformed: int = 0


async def read_tasks(
    cluster: Cluster,
    *,
    state: str | None = None,
    name: str | None = None,
    event_id: str | None = None,
    source: str | None = None,
) -> Listing:
    """All matching tasks of the hub; with `event_id`, those created by a CloudEvent with this id (and `source`).

    Raises Unreachable, TopicMissing."""
    found: list[ListedTask] = []
    malformed, partitions = 0, await describe_partitions(cluster)
    made = (
        None
        if event_id is None
        else {each.task for each in await find_made(KafkaTransport(cluster), partitions, event_id, source=source)}
    )
    for partition in range(partitions):
        for key, value in (await latest_rows(cluster, partition, "task")).items():
            try:
                found.append(listed_task(key, value, partition))
            except MalformedRecord:
                malformed += 1
    fitting = [task for task in found if fits(task, state=state, name=name) and (made is None or task.id in made)]
    return Listing(tasks=sorted(fitting, key=lambda task: task.since, reverse=True), malformed=malformed)


def fits(task: ListedTask, *, state: str | None, name: str | None) -> bool:
    """Whether a task matches the options."""
    return (state is None or task.state == state) and (name is None or fnmatchcase(task.name, name))


def listed_task(key: bytes, value: bytes, partition: int) -> ListedTask:
    """The line for one row of `hub.state`. Raises only MalformedRecord."""
    try:
        value.decode()
        entry = decode_row(key, value)
        match entry and entry.row:
            case EndedRow() as row if entry is not None:
                return _ended(entry.id, row, partition)
            case TaskRow() as row if entry is not None:
                return _live(entry.id, row, partition)
    except (ValueError, TypeError, RecursionError) as error:  # TypeError: times with and without a zone are subtracted.
        raise MalformedRecord(printable(str(error))) from None
    raise MalformedRecord("it is not a row of a task")


def _ended(task_id: str, row: EndedRow, partition: int) -> ListedTask:
    remark = f"{row.error.type}: {row.error.message}" if row.error is not None else row.reason
    return ListedTask(
        id=task_id,
        name=row.name,
        state=row.ended,
        attempt=row.attempt,
        partition=partition,
        root=row.root,
        since=row.finished_at,
        live=False,
        seconds=row.seconds,
        remark=remark,
    )


def _live(task_id: str, row: TaskRow, partition: int) -> ListedTask:
    return ListedTask(
        id=task_id,
        name=row.name,
        state=row.state,
        attempt=row.attempt,
        partition=partition,
        root=row.root,
        since=row.finished_at or row.created_at,
        live=row.finished_at is None,
        seconds=_seconds(row),
        remark=_remark(row),
    )


def _remark(row: TaskRow) -> str:
    if (steps := row.steps).total:
        ended = steps.completed + steps.failed + steps.cancelled + steps.skipped + steps.expired
        return f"{ended} of {steps.total} steps ended"
    if row.error is not None:
        return f"{row.error.type}: {row.error.message}"
    if row.percent is not None:
        return f"{row.percent:g} % {row.message}".rstrip()
    return row.message


def _seconds(row: TaskRow) -> float | None:
    if row.started_at is None or row.finished_at is None:
        return None
    if row.ran_seconds is not None:
        return row.ran_seconds
    return (datetime.fromisoformat(row.finished_at) - datetime.fromisoformat(row.started_at)).total_seconds()
