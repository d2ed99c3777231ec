"""The one Kafka client layer of the hub: records, topics, partitions, clients, sessions. See README.md."""

from .clients import (
    make_admin,
    make_consumer,
    make_producer,
    wait_until_reachable,
)
from .codec import BATCH_BYTES_MAX, build_batch, build_batches, read_batches
from .errors import (
    BrokerUnreachable,
    ConnectionLost,
    CorruptBatch,
    OffsetOutOfRange,
    RecordTooLarge,
    SessionFailed,
    SessionFenced,
    TopicMismatch,
    TopicMissing,
)
from .opening import open_session, supports_kip890
from .partition import INBOX_PARTITIONS, inbox_of, murmur2, partition_of
from .records import Record, StoredRecord, TopicPartition
from .session import TransactionalSession

__all__ = [
    "BATCH_BYTES_MAX",
    "INBOX_PARTITIONS",
    "BrokerUnreachable",
    "ConnectionLost",
    "CorruptBatch",
    "OffsetOutOfRange",
    "Record",
    "RecordTooLarge",
    "SessionFailed",
    "SessionFenced",
    "StoredRecord",
    "TopicMismatch",
    "TopicMissing",
    "TopicPartition",
    "TransactionalSession",
    "build_batch",
    "build_batches",
    "inbox_of",
    "make_admin",
    "make_consumer",
    "make_producer",
    "murmur2",
    "open_session",
    "partition_of",
    "read_batches",
    "supports_kip890",
    "wait_until_reachable",
]
