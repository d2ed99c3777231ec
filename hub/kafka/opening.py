"""Which kind of transactional session a cluster takes."""

from collections.abc import Mapping

from . import wire
from .classic import ClassicSession
from .connection import REQUEST_SECONDS, ask_versions, connect_any
from .kip890 import Kip890Session
from .session import TRANSACTION_TIMEOUT_MS, TransactionalSession

NEEDED = (wire.PRODUCE, wire.METADATA, wire.FIND_COORDINATOR, wire.INIT_PRODUCER_ID, wire.END_TXN)


async def open_session(
    bootstrap: str,
    transactional_id: str,
    *,
    transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    compression: str = "none",
    client_id: str | None = None,
) -> TransactionalSession:
    """An open session of the best kind that the cluster takes: with KIP-890 where its feature `transaction.version` is
    2 or more (Apache Kafka from 4.0 on, the embedded broker), otherwise on aiokafka's producer. Raises as
    `TransactionalSession.open` does."""
    kind = Kip890Session if await supports_kip890(bootstrap) else ClassicSession
    session: TransactionalSession = kind(
        bootstrap,
        transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        compression=compression,
        client_id=client_id,
    )
    await session.open()
    return session


async def supports_kip890(bootstrap: str, *, timeout_seconds: float = REQUEST_SECONDS) -> bool:
    """Whether the cluster has the repaired transaction protocol switched on. Raises `BrokerUnreachable`,
    `ConnectionLost`."""
    versions = await _ask(bootstrap, timeout_seconds)
    return versions.features.get("transaction.version", 0) >= 2 and versions.speaks(*NEEDED)


async def describe_features(bootstrap: str, *, timeout_seconds: float = REQUEST_SECONDS) -> Mapping[str, int]:
    """The levels of the cluster's finalized features: `metadata.version` says which release it runs as. Raises
    `BrokerUnreachable`, `ConnectionLost`."""
    return (await _ask(bootstrap, timeout_seconds)).features


async def _ask(bootstrap: str, timeout_seconds: float) -> wire.ApiVersions:
    connection = await connect_any(bootstrap, client_id="hub-probe", timeout_seconds=timeout_seconds)
    try:
        return await ask_versions(connection, timeout_seconds=timeout_seconds)
    finally:
        connection.close()
