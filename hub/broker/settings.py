"""Limits and identity of a broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Limits and identity of a broker."""

    node_id: int = 1
    cluster_id: str = "taskhub-embedded"
    default_partitions: int = 1
    """Partitions of a topic whose creator leaves the number to the broker."""
    auto_create_topics: bool = False
    """Whether asking for an unknown topic's metadata creates it."""
    partitions_max: int = 4096
    """Partitions over all topics: each costs memory and files."""
    producer_epoch_max: int = 32767
    """Where a producer's epoch runs out and it gets another producer id. Lower only to test that."""
    transaction_timeout_ms_max: int = 900_000
    session_timeout_ms_min: int = 100
    session_timeout_ms_max: int = 1_800_000
    group_initial_delay_ms: int = 20
    """How long the first member of an empty group waits for others before the first generation starts."""
    group_members_max: int = 1000
    offset_metadata_bytes_max: int = 4096
    fetch_bytes_max: int = 55 * 1024 * 1024
    producer_expiration_ms: int = 86_400_000
    """After this time without a batch a partition forgets a producer (Kafka's `producer.id.expiration.ms`)."""
    transactional_id_expiration_ms: int = 604_800_000
    """After this time without a transaction a transactional id is forgotten (`transactional.id.expiration.ms`)."""
    offsets_retention_ms: int = 604_800_000
    """How long the offsets of a group without members are kept (`offsets.retention.minutes`)."""
    retention_check_seconds: float = 30.0
    """How often logs are searched for what is too old. Besides, after every checkpoint: that is when logs grow on disk."""
    expiration_check_seconds: float = 300.0
    """How often producers, transactional ids and offsets are searched for what has expired."""
    cleaner_share: float = 0.25
    """Part of one core's time that compaction may take from the broker."""
    cleaner_map_bytes: int = 48 << 20
    """Memory for the keys of one pass of compaction. A log with more new keys is cleaned in several passes."""
