"""The benchmarks run; their results are not checked."""

from hub.broker import BrokerServer
from hub.broker.bench import time_concurrently, time_transactions

from .client import batch


async def test_transactions_and_appends_are_timed(disk_broker: BrokerServer) -> None:
    local = disk_broker.local
    await local.create_topic("t", 1)

    def build(producer_id: int, epoch: int) -> bytes:
        return batch([b"x"], producer_id=producer_id, epoch=epoch, sequence=0, transactional=True)

    figures = await time_transactions(local, "t", count=20, build=build)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    figures = await time_concurrently(lambda number: local.append("t", 0, batch([b"x"])), count=50, parallel=10)
    assert figures["per_second"] > 0
    assert local.end("t", 0) == 20 * 2 + 50
