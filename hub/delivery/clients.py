"""The Kafka clients of delivery: those of `hub.kafka`, with different settings where necessary."""

from collections.abc import Mapping
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from ..kafka import BATCH_BYTES_MAX, DEAD_LETTER_BYTES, Cluster, ensure_dlq, make_consumer, make_producer

NO_CONFIGS: Mapping[str, str] = {}

TooLarge = MessageSizeTooLargeError
"""The record is larger than the producer or the broker accepts."""


class Clients:
    """Creates clients for one cluster; the caller starts and stops them.

    `dead_letter_configs`: configured topic settings of the dead-letter topics."""

    def __init__(self, cluster: Cluster, dead_letter_configs: Mapping[str, str] = NO_CONFIGS) -> None:
        self.cluster = cluster
        self._dead_letter_configs = dead_letter_configs

    def consumer(self, group: str) -> Any:
        """A consumer in `group`. A rebalance waits up to 30 s for running handlers."""
        return make_consumer(self.cluster, group=group, rebalance_timeout_ms=30_000)

    def producer(self) -> Any:
        """A producer for dead letters."""
        return make_producer(self.cluster, max_request_size=BATCH_BYTES_MAX + DEAD_LETTER_BYTES)

    async def ensure_dead_letter_topic(self, subscriber: str, events_topic: str) -> None:
        """Create the dead-letter topic of a subscriber unless it exists. Raises TopicMissing if the events topic does not exist,
        TopicMismatch or TopicRefused if the dead-letter topic cannot be used or created, Unreachable."""
        await ensure_dlq(self.cluster, subscriber, events=events_topic, config=self._dead_letter_configs)
