"""What waiting tasks cost: memory of the processes, bytes on disk, and the time to the first result after a crash."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from ..client import Hub
from ..errors import HubError
from ..kafka import Cluster, partition_of, wait_until_reachable
from .measures import NOOP

LATER_SECONDS = 36_000
"""The delay of the waiting tasks."""
CHUNK_TASKS = 500
RESULT_SECONDS = 120.0
SNAPSHOTS = "*.snapshot"


async def fill(hub: Hub, tasks: int) -> None:
    """Submit `tasks` delayed tasks and wait until all are admitted: a query to each partition follows its tasks. Raises
    HubError."""
    for first in range(0, tasks, CHUNK_TASKS):
        count = min(CHUNK_TASKS, tasks - first)
        submissions: list[dict[str, Any]] = [{"name": NOOP, "start_after": LATER_SECONDS} for _ in range(count)]
        handles = await hub.submit_many(submissions)
        for handle in {partition_of(handle.root, hub.partitions): handle for handle in handles}.values():
            await hub.get(handle.id)


async def first_result(cluster: Cluster) -> float:
    """Submit a task as soon as the broker responds; the time (of `time.perf_counter`) when its result arrives. Raises
    HubError."""
    await wait_until_reachable(cluster, RESULT_SECONDS)
    async with Hub(cluster) as hub:
        await hub.run(NOOP, timeout_seconds=RESULT_SECONDS)
    return time.perf_counter()


def pss_bytes(groups: Mapping[str, list[int]]) -> dict[str, int]:
    """The PSS of groups of processes in bytes, by name; where the system has no PSS, the RSS. Raises HubError if a process has
    ended."""
    return {name: sum(_pss(pid) for pid in pids) for name, pids in groups.items()}


def _pss(pid: int) -> int:
    try:
        about = psutil.Process(pid).memory_full_info()
    except psutil.NoSuchProcess:
        raise HubError(f"The process {pid} of the hub has ended.") from None
    return int(getattr(about, "pss", about.rss))


async def snapshot_bytes(folder: Path) -> int:
    """The size of all snapshots of engine partitions below `folder`, in bytes."""
    return await asyncio.to_thread(lambda: sum(_size(path) for path in folder.rglob(SNAPSHOTS)))


async def stored_bytes(folder: Path) -> int:
    """The disk space of all files below `folder`, in bytes, as allocated by the file system."""
    return await asyncio.to_thread(lambda: sum(_size(path) for path in folder.rglob("*") if path.is_file()))


def _size(path: Path) -> int:
    """The allocated bytes of a file; 0 if it was deleted meanwhile."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
