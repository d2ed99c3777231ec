"""Limits and identity of a broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Limits and identity of a broker."""

    node_id: int = 1
    cluster_id: str = "taskhub-embedded"
    default_partitions: int = 1
    """Number of partitions of topics that are created without one."""
    auto_create_topics: bool = False
    """Whether a metadata request for an unknown topic creates it."""
    partitions_max: int = 4096
    """Most partitions over all topics; each needs memory and files."""
    producer_epoch_max: int = 32767
    """Largest epoch of a producer id; after it the producer gets a new producer id. Lower it only in tests."""
    transaction_timeout_ms_max: int = 900_000
    session_timeout_ms_min: int = 100
    session_timeout_ms_max: int = 1_800_000
    group_initial_delay_ms: int = 20
    """How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`)."""
    group_members_max: int = 1000
    offset_metadata_bytes_max: int = 4096
    fetch_bytes_max: int = 55 * 1024 * 1024
    producer_expiration_ms: int = 86_400_000
    """How long a partition keeps the state of a producer that sends nothing (Kafka's `producer.id.expiration.ms`)."""
    transactional_id_expiration_ms: int = 604_800_000
    """How long a transactional id is kept without a transaction (`transactional.id.expiration.ms`)."""
    offsets_retention_ms: int = 604_800_000
    """How long the offsets of a group without members are kept (`offsets.retention.minutes`)."""
    retention_check_seconds: float = 30.0
    """Interval of retention. It also runs after every checkpoint, because logs grow on disk only then."""
    expiration_check_seconds: float = 300.0
    """Interval at which expired producers, transactional ids and offsets are removed."""
    cleaner_share: float = 0.25
    """Share of one core that compaction may use."""
    cleaner_map_bytes: int = 48 << 20
    """Memory for the keys of one pass of compaction. A log with more keys is cleaned in several passes."""
