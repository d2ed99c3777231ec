"""Selects the kind of transactional session that a cluster supports."""

from collections.abc import Mapping

from . import requests
from .classic import ClassicSession
from .cluster import Cluster
from .connection import connect_any
from .kip890 import Kip890Session
from .session import TRANSACTION_TIMEOUT_MS, TransactionalSession

NEEDED = (requests.PRODUCE, requests.METADATA, requests.FIND_COORDINATOR, requests.INIT_PRODUCER_ID, requests.END_TXN)


async def open_session(
    cluster: Cluster,
    transactional_id: str,
    *,
    transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    compression: str = "none",
) -> TransactionalSession:
    """Open a session: with KIP-890 if the cluster's feature `transaction.version` is at least 2 (Apache Kafka from 4.0, the
    embedded broker), otherwise on aiokafka's producer. Raises as `TransactionalSession.open` does."""
    kind = Kip890Session if await supports_kip890(cluster) else ClassicSession
    session: TransactionalSession = kind(
        cluster,
        transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        compression=compression,
    )
    await session.open()
    return session


async def supports_kip890(cluster: Cluster, *, timeout_seconds: float | None = None) -> bool:
    """Whether the cluster has enabled version 2 of the transaction protocol (KIP-890). Raises `BrokerUnreachable`,
    `ConnectionLost`."""
    versions = await _ask(cluster, timeout_seconds)
    return versions.features.get("transaction.version", 0) >= 2 and versions.speaks(*NEEDED)


async def describe_features(cluster: Cluster, *, timeout_seconds: float | None = None) -> Mapping[str, int]:
    """The levels of the cluster's finalized features; `metadata.version` indicates its release. Raises `BrokerUnreachable`,
    `ConnectionLost`."""
    return (await _ask(cluster, timeout_seconds)).features


async def _ask(cluster: Cluster, timeout_seconds: float | None) -> requests.ApiVersions:
    connection = await connect_any(cluster, role="probe", timeout_seconds=timeout_seconds)
    try:
        return await requests.ask_versions(connection, timeout_seconds=timeout_seconds)
    finally:
        connection.close()
