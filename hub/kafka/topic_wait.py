"""Waits until a topic exists, which another process creates."""

import asyncio
from collections.abc import Callable

from ..protocol import ErrorCode
from . import requests
from .cluster import Cluster
from .leader_directory import LeaderDirectory


async def wait_for_topic(cluster: Cluster, topic: str, on_missing: Callable[[], object], *, every_seconds: float) -> None:
    """Wait until `topic` exists; it is looked for every `every_seconds`. Calls `on_missing` each time that it does not exist.

    Raises BrokerUnreachable."""
    directory = LeaderDirectory(cluster, role="topics")
    try:
        while True:
            (found,) = (await directory.ask(requests.LEADERS, requests.metadata_request([topic])))["topics"]
            if found["error_code"] != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                return
            on_missing()
            await asyncio.sleep(every_seconds)
    finally:
        directory.close()
