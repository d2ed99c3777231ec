"""DescribeLogDirs: sizes of partitions and of the disk."""

from pathlib import Path
from typing import Any

from kio.static.primitive import i32

from hub.broker import BrokerServer
from hub.broker.files import FileStorage

from .client import RawClient, batch, kio_class


async def log_dir(server: BrokerServer, topics: dict[str, list[int]] | None = None, version: int = 4) -> Any:
    """The only log directory in an answer."""
    describable = kio_class("describe_log_dirs", version, "request", "DescribableLogDirTopic")
    asked = None
    if topics is not None:
        asked = tuple(describable(topic=name, partitions=tuple(map(i32, indexes))) for name, indexes in topics.items())
    async with RawClient(server.host, server.port) as client:
        answer = await client.ask("describe_log_dirs", version, topics=asked)
    (result,) = answer.results
    return result


def sizes(result: Any) -> dict[tuple[str, int], int]:
    """Bytes by partition."""
    return {(topic.name, entry.partition_index): entry.partition_size for topic in result.topics for entry in topic.partitions}


async def test_a_partition_is_as_large_as_its_batches_on_file_or_in_the_journal(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path, journal_file_bytes=20_000, checkpoint_bytes=20_000, reserve_bytes=1000)
    server = BrokerServer(tmp_path, storage=storage)
    await server.start()
    await server.local.create_topic("t", 2)
    raw = batch([bytes(1000)])
    for _ in range(50):
        await server.local.append("t", 1, raw)
    result = await log_dir(server)
    assert sizes(result) == {("t", 0): 0, ("t", 1): 50 * len(raw)}
    assert result.log_dir == str(tmp_path)
    assert result.total_bytes > result.usable_bytes > 0
    assert sizes(await log_dir(server, {"t": [1, 7], "unknown": [0]}, version=1)) == {("t", 1): 50 * len(raw)}
    await server.stop()


async def test_a_broker_in_memory_has_sizes_and_no_disk(broker: BrokerServer) -> None:
    await broker.local.create_topic("t", 1)
    await broker.local.append("t", 0, batch([b"x"]))
    result = await log_dir(broker)
    assert sizes(result) == {("t", 0): len(batch([b"x"]))}
    assert (result.log_dir, result.total_bytes, result.usable_bytes) == ("memory", -1, -1)
