"""The one Kafka client layer of the hub: records, topics, partitions, clients, sessions. See README.md."""

from .classic import ClassicSession
from .clients import make_admin, make_consumer, make_producer, wait_until_reachable
from .codec import BATCH_BYTES_MAX, build_batch, build_batches, read_batches, size_of
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
    TopicRefused,
)
from .groups import GroupMember, GroupState, describe_groups
from .kip890 import Kip890Session
from .membership import GroupMembership
from .opening import open_session, supports_kip890
from .partition import INBOX_PARTITIONS, inbox_of, murmur2, partition_of
from .reader import PartitionReader, read_all
from .records import Record, StoredRecord, TopicPartition
from .sender import Outgoing, Sender
from .session import TransactionalSession
from .storage import Storage, describe_storage
from .topic_config import TopicChange
from .topics import (
    COMMANDS_PREFIX,
    DEFAULT_POOL,
    DLQ_PREFIX,
    EVENTS,
    INTAKE,
    REPLIES,
    REPLY_PARTITIONS,
    STATE,
    TOMBSTONES_MS,
    Ensured,
    TopicSpec,
    commands_topic,
    describe_partitions,
    describe_setting,
    dlq_topic,
    ensure_dlq,
    ensure_hub,
    ensure_pool,
    ensure_topics,
    hub_topics,
    list_pools,
    pool_topic,
)

__all__ = [
    "BATCH_BYTES_MAX",
    "COMMANDS_PREFIX",
    "DEFAULT_POOL",
    "DLQ_PREFIX",
    "EVENTS",
    "INBOX_PARTITIONS",
    "INTAKE",
    "REPLIES",
    "REPLY_PARTITIONS",
    "STATE",
    "TOMBSTONES_MS",
    "BrokerUnreachable",
    "ClassicSession",
    "ConnectionLost",
    "CorruptBatch",
    "Ensured",
    "GroupMember",
    "GroupMembership",
    "GroupState",
    "Kip890Session",
    "OffsetOutOfRange",
    "Outgoing",
    "PartitionReader",
    "Record",
    "RecordTooLarge",
    "Sender",
    "SessionFailed",
    "SessionFenced",
    "Storage",
    "StoredRecord",
    "TopicChange",
    "TopicMismatch",
    "TopicMissing",
    "TopicPartition",
    "TopicRefused",
    "TopicSpec",
    "TransactionalSession",
    "build_batch",
    "build_batches",
    "commands_topic",
    "describe_groups",
    "describe_partitions",
    "describe_setting",
    "describe_storage",
    "dlq_topic",
    "ensure_dlq",
    "ensure_hub",
    "ensure_pool",
    "ensure_topics",
    "hub_topics",
    "inbox_of",
    "list_pools",
    "make_admin",
    "make_consumer",
    "make_producer",
    "murmur2",
    "open_session",
    "partition_of",
    "pool_topic",
    "read_all",
    "read_batches",
    "size_of",
    "supports_kip890",
    "wait_until_reachable",
]
