"""Moves the events of `hub.events` into a function with Faust. The only module that imports Faust; it keeps no state.

Faust delivers at least once, and the function ignores what it has taken (by offset). Faust's tables are not used: after a crash
they have counted some records twice, also with Faust's transactions.
"""

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from uuid_utils import uuid7

from ..kafka import EVENTS, Cluster, commit_offsets
from ..logs import Logger

log = Logger(__name__)

GROUP_PREFIX = "hub.analytics."
"""Each start has a group of its own: all processes read all events, and none waits until a killed one is missed. The broker
deletes groups that have no members for some days."""
STOP_SECONDS = 10.0

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "store": "memory://",
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "table_standby_replicas": 0,
        "processing_guarantee": "at_least_once",
        "broker_commit_interval": 1.0,
        "broker_session_timeout": 6.0,
        "broker_heartbeat_interval": 1.0,
        "broker_rebalance_timeout": 10.0,
        "broker_request_timeout": 20.0,
        "stream_wait_empty": False,
        "consumer_auto_offset_reset": "earliest",
    }
)
"""Settings of Faust. Nothing is created on the broker, no port is opened, and nothing is waited for at the stop."""

Take = Callable[[int, int, bytes | None, list[tuple[str, bytes | None]]], None]
"""Takes a record: partition, offset, value, headers."""


class FaustFeed:
    """The stream of events. `take` must not raise."""

    def __init__(self, cluster: Cluster, partitions: int, take: Take) -> None:
        self._cluster, self._partitions, self._take = cluster, partitions, take
        self._group = f"{GROUP_PREFIX}{uuid7()}"
        self._app: Any = None

    async def start(self, positions: Mapping[int, int]) -> None:
        """Begin at these offsets. Raises HubError."""
        await commit_offsets(self._cluster, self._group, EVENTS, positions)
        self._app = self._make_app()
        await self._app.start()

    def _make_app(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Faust's own use of deprecated functions
            import faust

            from . import faust_repair

        for name in ("faust", "mode", faust_repair.__name__):
            logging.getLogger(name).setLevel(logging.ERROR)
        app = faust.App(
            self._group,
            broker=[f"kafka://{address}" for address in str(self._cluster).split(",")],
            broker_client_id=self._cluster.client_id_of("analytics"),
            topic_partitions=self._partitions,
            loop=asyncio.get_running_loop(),
            **SETTINGS,
        )
        topic = app.topic(EVENTS, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        async def events(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                self._take(message.partition, message.offset, event.value, list(message.headers or ()))

        app.agent(topic, concurrency=1, name="hub.analytics.events")(events)
        return app

    def check(self) -> None:
        """Raise the error with which Faust ended, if it did."""
        reason = self._app.crash_reason
        if reason is not None:
            raise RuntimeError(f"Faust ended: {reason!r}") from reason

    def complete_until_ms(self, taken: Mapping[int, int]) -> int | None:
        """The local time in ms before which all committed events were taken; None if it is unknown. `taken`: by partition the
        next offset to take."""
        consumer = self._app.consumer
        if consumer.partitions < self._partitions:
            return None
        for mark in reversed(consumer.fetched):
            if all(taken.get(partition, 0) > last for partition, last in mark.last.items()):
                return int(mark.at_ms)
        return None

    async def stop(self) -> None:
        """Stop, and commit what was processed."""
        if self._app is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._app.stop()
