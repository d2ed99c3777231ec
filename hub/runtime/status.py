"""What runs: read from the cluster (who owns the partitions, which workers there are, which subscribers) and from the
supervisor's `run.json`, put together by host and process id.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas import parts_of_definition

from ..core import EngineRow, MetaRow, WorkerRow, decode_row, kind_of
from ..errors import Unreachable
from ..kafka import (
    INTAKE,
    STATE,
    Cluster,
    ClusterStorage,
    GroupState,
    OffsetOutOfRange,
    PartitionReader,
    StoredRecord,
    describe_groups,
    describe_partitions,
    describe_storage,
    is_client_error,
    read_all,
    wait_until_reachable,
)
from .backlog import HubBacklog, read_backlog
from .health import FleetMember, ask_all
from .run_file import process_lives, read_run_file

SUBSCRIBER_GROUPS = "hub.sub."
TOPICS = "hub."
ANSWER_SECONDS = 1.0
READ_RECORDS = 2_000
READ_MS = 200
OFFSET_MAX = (1 << 63) - 1
PID_MAX = (1 << 31) - 1
CE_TYPE, OF_WORKERS = "ce_type", b"worker."
GONE = ("stopped", "lost")
_PID = re.compile(r"hub-[a-z]+-(\d+)$")


@dataclass
class ProcessStatus:
    """One process. `lag`: records of its input that it has not decided (engine) or acknowledged (delivery) yet; None where it
    reads none. `ready`: by its health page; None if it serves none to the supervisor. `not_ready`: why, by check.
    `state`: serving, starting, failing (of delivery: some of its subscribers do not run; `about` has why), draining,
    silent (a worker not heard of for a lease)."""

    role: str
    pid: int
    host: str
    state: str
    partitions: list[int] = field(default_factory=list)
    lag: int | None = None
    restarts: int | None = None
    ready: bool | None = None
    not_ready: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


async def gather_status(cluster: Cluster, run: dict[str, Any] | None) -> dict[str, Any]:
    """{"address", "partitions", "processes": [...], "queues": [{"queue", "waiting", "oldest_seconds"}], "subscribers":
    [{"subscriber", "state", "lag", "lag_seconds"}], "topics": [{"topic", "bytes"}], "disk": {"usable_bytes", "total_bytes",
    "unanswered"}, "malformed_rows"}, JSON types. `run` is the content of the supervisor's file, if it is known; without it the
    file is looked for in the directories that the brokers name.

    Subscribers are those whose group has committed an offset: `state` is connected or disconnected (no process of delivery is a
    member of the group), `lag` the number of records after the committed offsets, `lag_seconds` the age of the oldest event that
    is not acknowledged (None: unknown). Ages and queues are known from supervised processes on this machine. Topics whose size
    no broker gives are left out; sizes of the disk that no broker gives are None. `malformed_rows`: records of `hub.state` that
    cannot be read.

    Raises BrokerUnreachable, TopicMissing, and the first error of a part that failed."""
    await wait_until_reachable(cluster, ANSWER_SECONDS)
    partitions = await describe_partitions(cluster)
    try:
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(_read_partition(cluster, partition)) for partition in range(partitions)]
            subscribers = group.create_task(describe_groups(cluster, SUBSCRIBER_GROUPS))
            storage = group.create_task(_read_storage(cluster))
    except ExceptionGroup as failures:
        raise _one_of(cluster, failures) from failures
    run = run or await asyncio.to_thread(_find_run, storage.result())
    found: dict[tuple[str, int], ProcessStatus] = {}
    if run is not None:
        _add_supervised(found, run)
        await _add_readiness(found, run)
    for partition, one in enumerate(reading):
        _add_partition(found, partition, one.result())
    _add_subscribers(found, subscribers.result())
    running = list(found.values())
    order = ["supervisor", "broker", "broker+engine", "engine", "worker", "delivery", "analytics"]
    running.sort(key=lambda status: (order.index(status.role), status.host, status.pid))
    processes = [asdict(status) for status in running]
    backlog = await read_backlog(_health_addresses(run))
    delivered = [_subscriber(group, backlog) for group in subscribers.result()]
    queues = [
        {"queue": queue, "waiting": waiting, "oldest_seconds": round(oldest, 3)}
        for queue, (waiting, oldest) in sorted(backlog.queues.items())
    ]
    about = {"address": str(cluster), "partitions": partitions, "processes": processes, "subscribers": delivered}
    malformed = sum(one.result().malformed for one in reading)
    return {**about, "queues": queues, "malformed_rows": malformed, **_storage_facts(storage.result())}


def _one_of(cluster: Cluster, failures: ExceptionGroup[Exception]) -> Exception:
    """The first failure; as an error that names the broker where it is one of the network."""
    first: Exception = failures
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if is_client_error(first) or isinstance(first, OSError | TimeoutError):
        return Unreachable(f"The broker at {cluster} answers, but reading the hub's state failed: {first!r}.")
    return first


def _find_run(storage: ClusterStorage) -> dict[str, Any] | None:
    """The file of a supervisor on this machine whose broker is one of these: a broker names its data directory."""
    for address, dirs in storage.dirs.items():
        for one in dirs:
            run = read_run_file(Path(one.path))
            if run is not None and run.get("address") == address:
                return run
    return None


async def _read_storage(cluster: Cluster) -> ClusterStorage:
    try:
        return await describe_storage(cluster)
    except Unreachable:  # the rest of the status holds without it
        return ClusterStorage({}, {}, [str(cluster)])


def _storage_facts(storage: ClusterStorage) -> dict[str, Any]:
    topics = sorted({place.topic for place in storage.sizes if place.topic.startswith(TOPICS)})
    return {
        "topics": [{"topic": topic, "bytes": storage.bytes_of(topic)} for topic in topics],
        "disk": {
            "usable_bytes": storage.usable_bytes,
            "total_bytes": storage.total_bytes,
            "unanswered": list(storage.unanswered),
        },
    }


#: Kinds of rows that are about processes and not about tasks.
PROCESSES = ("!meta", "engine", "worker")


@dataclass
class PartitionStatus:
    """What the changelog of one partition says of processes. `lag`: records that its owner has not decided. `malformed`: how many
    records were not rows of processes although their keys say so."""

    owner: EngineRow | None = None
    workers: dict[str, WorkerRow] = field(default_factory=dict)
    offset: int = 0
    lag: int = 0
    malformed: int = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """Fold in one record of `hub.state`, whatever it holds."""
        try:
            self._fold(key, value)
        except (ValueError, RecursionError):
            self.malformed += 1

    def _fold(self, key: bytes, value: bytes | None) -> None:
        kind = kind_of(key)
        entry = decode_row(key, value) if kind in PROCESSES else None
        match entry and entry.row:
            case MetaRow(offset=offset):
                self.offset = _between(0, offset, OFFSET_MAX)
            case EngineRow() as owner:
                _between(0, owner.pid, PID_MAX)
                self.owner = owner
            case WorkerRow() as worker if entry is not None:
                _between(0, worker.pid, PID_MAX)
                self.workers[entry.id] = worker
            case None if entry is not None and kind == "engine":
                self.owner = None
            case None if entry is not None and kind == "worker":
                self.workers.pop(entry.id, None)


def _between(least: int, number: int, most: int) -> int:
    if not least <= number <= most:
        raise ValueError(f"{number} is not between {least} and {most}")
    return number


async def _read_partition(cluster: Cluster, partition: int) -> PartitionStatus:
    """The rows of processes in a partition's changelog, and how far its owner has got."""
    status = PartitionStatus()
    async for record in read_all(cluster, STATE, partition):
        status.take(record.key or b"", record.value)
    status.lag = await _undecided(cluster, partition, status.offset)
    return status


async def names_served(cluster: Cluster) -> set[str]:
    """The names of tasks for which a worker that is alive has a handler, by the rows of workers in `hub.state`.

    Raises Unreachable, TopicMissing."""
    names: set[str] = set()
    for partition in range(await describe_partitions(cluster)):
        status = PartitionStatus()
        async for record in read_all(cluster, STATE, partition):
            status.take(record.key or b"", record.value)
        for row in status.workers.values():
            if row.state not in GONE:
                names |= _names_of(row)
    return names


def _names_of(row: WorkerRow) -> set[str]:
    """The names of the tasks that a worker has handlers for. Invalid ids of definitions are skipped."""
    names = set()
    for identifier in row.definitions:
        with suppress(ValueError):
            names.add(parts_of_definition(identifier)[1])
    return names


async def _undecided(cluster: Cluster, partition: int, offset: int) -> int:
    """How many records wait from `offset` on, counted from the first that is of a task: heartbeats and the like mostly
    change nothing, and so no transaction moves the offset past them."""
    async with PartitionReader(cluster) as reader:
        await reader.open(INTAKE, partition, 0)
        start, end = await reader.start_offset(), await reader.end_offset()
        reader.seek(min(max(offset, start), end))
        while reader.position < end:
            for record in await _read_kept(reader, end):
                if not any(name == CE_TYPE and (value or b"").startswith(OF_WORKERS) for name, value in record.headers):
                    return max(0, end - record.offset)
    return 0


async def _read_kept(reader: PartitionReader, end: int) -> Sequence[StoredRecord]:
    """The next records; where they were deleted meanwhile (by the engine), those that are kept, from the next call on."""
    try:
        return await reader.read(READ_RECORDS, READ_MS)
    except OffsetOutOfRange:
        reader.seek(min(await reader.start_offset(), end))
        return ()


def _add_supervised(found: dict[tuple[str, int], ProcessStatus], run: dict[str, Any]) -> None:
    host = socket.gethostname()
    found[host, run["pid"]] = ProcessStatus("supervisor", run["pid"], host, "serving", about={"data": run["data"]})
    for child in run["processes"]:
        if child["pid"] is not None:
            about = {key: child[key] for key in ("address", "incarnation", "subscribers", "failing") if child.get(key)}
            state = "starting" if not child["serving"] else "failing" if "failing" in about else "serving"
            found[host, child["pid"]] = ProcessStatus(
                child["role"], child["pid"], host, state, restarts=child["restarts"], about=about
            )


async def _add_readiness(found: dict[tuple[str, int], ProcessStatus], run: dict[str, Any]) -> None:
    """What the health pages of the supervised processes say."""
    host = socket.gethostname()
    members = [
        FleetMember(child["name"], child["role"], child["pid"], child["serving"], child["health"])
        for child in run["processes"]
        if child.get("health") is not None
    ]
    asked = await ask_all(members)
    for one in members:
        if (status := found.get((host, one.pid or 0))) is not None:
            status.not_ready = asked[one.name]["failed"]
            status.ready = not status.not_ready


def _health_addresses(run: dict[str, Any] | None) -> list[str]:
    """Where the supervised processes serve their pages."""
    processes = [] if run is None else run["processes"]
    return [child["health"] for child in processes if child["serving"] and child.get("health") is not None]


def _add_partition(found: dict[tuple[str, int], ProcessStatus], partition: int, read: PartitionStatus) -> None:
    owner = read.owner
    if owner is not None and (status := _entry(found, "engine", owner.host, owner.pid, owner.state)) is not None:
        status.partitions.append(partition)
        status.lag = (status.lag or 0) + read.lag
    for incarnation, row in read.workers.items():
        if (status := _entry(found, "worker", row.host, row.pid, row.state)) is not None:
            status.state = "serving" if row.state == "active" else row.state
            status.about |= {"incarnation": incarnation, "pool": row.pool, "queues": row.queues}
            status.about |= {"slots": row.slots, "tasks": sorted(_names_of(row))}


def _add_subscribers(found: dict[tuple[str, int], ProcessStatus], groups: list[GroupState]) -> None:
    for group in groups:
        for member in group.members:
            match = _PID.search(member.client_id)
            if match is None:
                continue  # a consumer of another program
            host = socket.gethostname() if (socket.gethostname(), int(match[1])) in found else member.host.lstrip("/")
            status = found.setdefault((host, int(match[1])), ProcessStatus("delivery", int(match[1]), host, "serving"))
            status.partitions = sorted({*status.partitions, *(partition for _, partition in member.lag)})
            status.lag = (status.lag or 0) + sum(behind or 0 for behind in member.lag.values())
            names = status.about.setdefault("subscribers", [])
            if (name := group.group.removeprefix(SUBSCRIBER_GROUPS)) not in names:
                names.append(name)


def _subscriber(group: GroupState, backlog: HubBacklog) -> dict[str, Any]:
    state = "connected" if group.members else "disconnected"
    lag = sum(behind or 0 for behind in group.lag.values())
    name = group.group.removeprefix(SUBSCRIBER_GROUPS)
    return {"subscriber": name, "state": state, "lag": lag, "lag_seconds": backlog.lag_seconds.get(name)}


def _entry(found: dict[tuple[str, int], ProcessStatus], role: str, host: str, pid: int, state: str) -> ProcessStatus | None:
    """The process in a row, unless it is known to have ended: a killed process does not delete its row."""
    if state in GONE or (host == socket.gethostname() and not process_lives(pid)):
        return None
    return found.setdefault((host, pid), ProcessStatus(role, pid, host, "serving"))
