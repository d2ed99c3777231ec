"""What the engine writes is compressed; a hub continues from batches that were written with any setting."""

import shutil
from pathlib import Path

import pytest

from hub.broker import BrokerServer
from hub.engine.in_process import InProcessBroker
from hub.kafka import EVENTS, STATE, Cluster, ensure_topics
from hub.verify import LocalSource, verify_source

from .test_loop import Owner, submit, until

CODECS = {"none": 0, "lz4": 3, "zstd": 4}
TASKS = 30


def codecs_of(server: BrokerServer, topic: str) -> set[int]:
    """The compression of the batches of a topic that have 1 KiB or more of records, uncompressed."""
    data, found, at = server.local.fetch(topic, 0, 0, max_bytes=1 << 24).data, set(), 0
    while at < len(data):
        length = 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        codec = data[at + 22] & 7
        if codec or length > 61 + 1024:
            found.add(codec)
        at += length
    return found


async def served(directory: Path) -> BrokerServer:
    server = BrokerServer(directory)
    await server.start()
    await ensure_topics(Cluster.of(server.bootstrap), partitions=1)
    return server


@pytest.mark.parametrize(("first", "second"), [("lz4", "none"), ("none", "zstd"), ("zstd", "lz4")])
async def test_a_hub_that_is_killed_continues_from_what_was_written_with_another_compression(
    tmp_path: Path, first: str, second: str
) -> None:
    """Its directory is copied while it runs: what a process leaves that is killed."""
    before = await served(tmp_path / "before")
    owner = await Owner(before, ports=InProcessBroker(before.local, compression=first)).started()
    await submit(before, range(TASKS), args={"text": "words " * 20})
    await until(before, "task.created", TASKS)
    await before.local.stable()
    assert codecs_of(before, EVENTS) == codecs_of(before, STATE) == {CODECS[first]}
    shutil.copytree(tmp_path / "before", tmp_path / "after", ignore=shutil.ignore_patterns("preparing"))  # renamed when complete
    await owner.crash()
    await before.stop()

    after = await served(tmp_path / "after")
    owner = await Owner(after, ports=InProcessBroker(after.local, compression=second)).started()
    await submit(after, range(TASKS, 2 * TASKS))
    seen = await until(after, "task.created", 2 * TASKS)
    assert [event.data.live_tasks for event in seen if event.type == "engine.restored"][-1] == TASKS
    await owner.stop()
    assert codecs_of(after, EVENTS) == {CODECS[first], CODECS[second]}
    report = await verify_source(LocalSource(after.local), settle_seconds=0.5)
    assert report.ok, report.render()
    await after.stop()
