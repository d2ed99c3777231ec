"""Reads the rows of one kind from a partition of `hub.state`: the last value of each key."""

from ..core import kind_of
from ..kafka import STATE, Cluster, read_all


async def latest_rows(cluster: Cluster, partition: int, kind: str) -> dict[bytes, bytes]:
    """Values by key, of the keys of this kind (see `hub.core.kind_of`) that were not deleted. Raises Unreachable,
    TopicMissing."""
    rows: dict[bytes, bytes] = {}
    async for record in read_all(cluster, STATE, partition):
        if record.key is None or kind_of(record.key) != kind:
            continue
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows
