"""The Kafka clients of delivery: those of `hub.kafka` with what differs here, and the reason beside it."""

from collections.abc import Mapping
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.errors import MessageSizeTooLargeError, TopicAlreadyExistsError, for_code

from ..kafka import BATCH_BYTES_MAX, Cluster, TopicMissing, ensure_configs, hub_topics, make_admin, make_consumer, make_producer

DEAD_LETTER_BYTES = 64 * 1024
"""What a dead letter may be larger than the event in it: headers that say why it is there."""

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
        """Create the dead-letter topic of a subscriber unless it is there, with as many partitions as the events have. One that
        exists is given the settings that were configured.

        Raises TopicMissing when the topic of events does not exist, aiokafka's errors when the broker does not answer."""
        admin = make_admin(self.cluster)
        await admin.start()
        try:
            (events,) = await admin.describe_topics([events_topic])
            if events["error_code"] or not events["partitions"]:
                raise TopicMissing(events_topic, str(self.cluster))
            spec = hub_topics(len(events["partitions"]), pools=(), subscribers=[subscriber])[-1]
            brokers = len((await admin.describe_cluster())["brokers"])
            size = str(int(spec.config["max.message.bytes"]) + DEAD_LETTER_BYTES)
            config = {**spec.config, "max.message.bytes": size, **self._dead_letter_configs}
            topic = NewTopic(spec.name, spec.partitions, min(3, brokers), topic_configs=config)
            for _, code, *message in (await admin.create_topics([topic])).topic_errors:
                if code and not issubclass(for_code(code), TopicAlreadyExistsError):
                    raise for_code(code)(f"{spec.name}: {message}")
                if code:
                    await ensure_configs(admin, self.cluster, spec.name, self._dead_letter_configs)
        finally:
            await admin.close()
