"""DescribeLogDirs: the encoding compared with kio's, and the responses of a broker."""
# mypy: disable-error-code="arg-type"

import asyncio
from importlib import import_module
from typing import Any

import pytest
from kio.schema.errors import ErrorCode
from kio.static.primitive import i32, i64

from hub.kafka import Cluster, ClusterStorage, TopicPartition, describe_storage, make_admin, make_producer, requests
from hub.protocol import RequestType
from tests.brokers import unique
from tests.protocol.kio_values import ZERO, written

from .test_requests import decoded, encoded
from .test_topics import create

KINDS = requests.DESCRIBE_LOG_DIRS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"v{kind.version}")
def test_the_request_asks_for_everything(kind: RequestType) -> None:
    module: Any = import_module(f"kio.schema.describe_log_dirs.v{kind.version}.request")
    assert encoded(kind, requests.describe_log_dirs_request()) == written(module.DescribeLogDirsRequest(topics=None))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"v{kind.version}")
def test_the_answer_is_read_in_every_version(kind: RequestType) -> None:
    module: Any = import_module(f"kio.schema.describe_log_dirs.v{kind.version}.response")

    def partition(index: int, size: int) -> Any:
        return module.DescribeLogDirsPartition(
            partition_index=i32(index), partition_size=i64(size), offset_lag=i64(3), is_future_key=False
        )

    topics = (
        module.DescribeLogDirsTopic(name="a", partitions=(partition(0, 10), partition(1, 1 << 40))),
        module.DescribeLogDirsTopic(name="b", partitions=()),
    )
    disk: dict[str, Any] = {"total_bytes": i64(1 << 42), "usable_bytes": i64(1 << 41)} if kind.version >= 4 else {}
    whole: dict[str, Any] = {"error_code": ErrorCode.none} if kind.version >= 3 else {}
    answer = module.DescribeLogDirsResponse(
        throttle_time=ZERO,
        results=(
            module.DescribeLogDirsResult(error_code=ErrorCode.none, log_dir="/one", topics=topics, **disk),
            module.DescribeLogDirsResult(error_code=ErrorCode.kafka_storage_error, log_dir="/two", topics=()),
        ),
        **whole,
    )
    sizes = {TopicPartition("a", 0): 10, TopicPartition("a", 1): 1 << 40}
    total, usable = (1 << 42, 1 << 41) if kind.version >= 4 else (None, None)
    assert requests.read_log_dirs(decoded(kind, answer)) == [
        requests.LogDir(0, "/one", sizes, total, usable),
        requests.LogDir(56, "/two", {}, None, None),
    ]


def test_a_refusal_of_the_whole_request_is_read() -> None:
    module: Any = import_module("kio.schema.describe_log_dirs.v4.response")
    answer = module.DescribeLogDirsResponse(throttle_time=ZERO, error_code=ErrorCode.cluster_authorization_failed, results=())
    assert requests.read_log_dirs(decoded(KINDS[0], answer)) == [requests.LogDir(31, "", {}, None, None)]


def test_the_disk_with_the_fewest_usable_bytes_counts() -> None:
    def one(total: int | None, usable: int | None) -> requests.LogDir:
        return requests.LogDir(0, "/", {}, total, usable)

    storage = ClusterStorage({}, {"a:1": [one(100, 60), one(None, None)], "b:1": [one(1_000, 50)]}, [])
    assert (storage.usable_bytes, storage.total_bytes) == (50, 1_000)
    unknown = ClusterStorage({}, {"a:1": [one(None, None)]}, ["b:1"])
    assert (unknown.usable_bytes, unknown.total_bytes) == (None, None)


async def test_what_was_written_is_in_the_size_of_its_topic(bootstrap: str, request: pytest.FixtureRequest) -> None:
    topic, written_bytes = unique("sized"), 300_000
    await create(bootstrap, topic, 3)
    before = await describe_storage(Cluster.of(bootstrap))
    producer = make_producer(Cluster.of(bootstrap))
    await producer.start()
    try:
        for partition in (0, 2):
            await producer.send_and_wait(topic, bytes(written_bytes), partition=partition)
    finally:
        await producer.stop()
    after = await describe_storage(Cluster.of(bootstrap))
    async with asyncio.timeout(60):
        while TopicPartition(topic, 1) not in after.sizes:  # Apache Kafka creates its files some time after the topic
            await asyncio.sleep(0.05)
            after = await describe_storage(Cluster.of(bootstrap))
    assert before.bytes_of(topic) == 0
    assert 2 * written_bytes < after.bytes_of(topic) < 2 * written_bytes + 10_000
    assert after.sizes[TopicPartition(topic, 1)] == 0
    assert after.bytes_of("nobody") == 0
    assert after.unanswered == []
    if request.node.callspec.params["bootstrap"] == "embedded":  # it keeps everything in memory
        assert (after.usable_bytes, after.total_bytes) == (None, None)
    else:
        assert 0 < (after.usable_bytes or 0) < (after.total_bytes or 0)
    admin = make_admin(Cluster.of(bootstrap))
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()
