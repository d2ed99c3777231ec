"""The Kafka clients of delivery, with their settings pinned in one place and the reason beside each."""

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
DEAD_LETTER_RETENTION_MS = 14 * 86_400_000


class Clients:
    """Makes clients for one bootstrap address; the caller starts and stops them."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self.bootstrap = bootstrap
        self._client_id = client_id

    def consumer(self, group: str) -> Any:
        """A group consumer of committed events that never commits or jumps by itself."""
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            client_id=self._client_id,
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",  # out of range is said, never jumped over in silence
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            rebalance_timeout_ms=30_000,  # a rebalance waits for handlers that run
            request_timeout_ms=15_000,
            retry_backoff_ms=100,
            metadata_max_age_ms=30_000,
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=MESSAGE_BYTES_MAX // 8,
            fetch_max_bytes=MESSAGE_BYTES_MAX,
        )

    def producer(self) -> Any:
        """An idempotent producer that is acknowledged by all replicas."""
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            max_batch_size=256 * 1024,
            max_request_size=MESSAGE_BYTES_MAX + 128 * 1024,  # an event of the largest size, and why it is here
            request_timeout_ms=10_000,
        )

    async def ensure_topic(self, topic: str) -> None:
        """Create a topic of dead letters unless it is there."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, client_id=self._client_id, request_timeout_ms=10_000)
        await admin.start()
        try:
            replicas = min(3, len((await admin.describe_cluster())["brokers"]))
            settings = {"retention.ms": str(DEAD_LETTER_RETENTION_MS), "max.message.bytes": str(MESSAGE_BYTES_MAX + 128 * 1024)}
            answer = await admin.create_topics([NewTopic(topic, 1, replicas, topic_configs=settings)])
            for error in answer.topic_errors:
                if error[1] and not issubclass(for_code(error[1]), TopicAlreadyExistsError):
                    raise for_code(error[1])(topic)
        finally:
            await admin.close()
