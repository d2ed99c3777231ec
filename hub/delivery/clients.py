"""The Kafka clients of delivery: those of `hub.kafka` with what differs here, and the reason beside it."""

from collections.abc import Mapping
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from ..kafka import BATCH_BYTES_MAX, DEAD_LETTER_BYTES, Cluster, ensure_dlq, make_consumer, make_producer

NO_CONFIGS: Mapping[str, str] = {}

TooLarge = MessageSizeTooLargeError
"""The producer, or the broker, takes no record of this size."""


class Clients:
    """Makes clients of one cluster; the caller starts and stops them.

    `dead_letter_configs`: topic settings that somebody configured for the dead-letter topics."""

    def __init__(self, cluster: Cluster, dead_letter_configs: Mapping[str, str] = NO_CONFIGS) -> None:
        self.cluster = cluster
        self._dead_letter_configs = dead_letter_configs

    def consumer(self, group: str) -> Any:
        """A member of `group`; a rebalance waits for handlers that run."""
        return make_consumer(self.cluster, group=group, rebalance_timeout_ms=30_000)

    def producer(self) -> Any:
        """For dead letters."""
        return make_producer(self.cluster, max_request_size=BATCH_BYTES_MAX + DEAD_LETTER_BYTES)

    async def ensure_dead_letter_topic(self, subscriber: str, events_topic: str) -> None:
        """Create the dead-letter topic of a subscriber unless it is there. Raises TopicMissing when the topic of events does not
        exist, TopicMismatch and TopicRefused where the topic cannot be worked with, Unreachable."""
        await ensure_dlq(self.cluster, subscriber, events=events_topic, config=self._dead_letter_configs)
