"""Pauses and resumes subscribers, for all processes of delivery and across their restarts.

A paused subscriber finishes its running handlers, commits, is closed and leaves its group; its lag grows until it is resumed.
"""

from datetime import UTC, datetime

from msgspec import json

from ...kafka import Cluster
from .control_records import Pause, pause_key, pauses_in
from .control_topic import ControlWriter, read_latest


async def pause(cluster: Cluster, subscriber: str, reason: str = "") -> None:
    """Pause a subscriber; running processes follow within seconds. Raises Unreachable, TopicRefused."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    await _write(cluster, subscriber, json.encode(Pause(now, reason)))


async def resume(cluster: Cluster, subscriber: str) -> None:
    """Resume a subscriber; no effect if it is not paused. Raises Unreachable, TopicRefused."""
    await _write(cluster, subscriber, None)


async def read_pauses(cluster: Cluster) -> dict[str, Pause]:
    """The paused subscribers, by id. Raises Unreachable."""
    return pauses_in(await read_latest(cluster))


async def _write(cluster: Cluster, subscriber: str, value: bytes | None) -> None:
    writer = ControlWriter(cluster)
    try:
        await writer.put(pause_key(subscriber), value)
    finally:
        await writer.close()
