"""The rows of one kind that a partition of `hub.state` holds, as bytes: the last value of each key; whether a task has one."""

from ..core import key_of, kind_of
from ..kafka import STATE, Cluster, describe_partitions, read_all


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


async def is_known(cluster: Cluster, task: str) -> bool:
    """Whether the hub has a row of this task: it is live, or ended within the time that ids are kept. Raises Unreachable,
    TopicMissing."""
    key = key_of("task", task)
    for partition in range(await describe_partitions(cluster)):
        known = False
        async for record in read_all(cluster, STATE, partition):
            if record.key == key:
                known = record.value is not None
        if known:
            return True
    return False
