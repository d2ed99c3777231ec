"""When a queue of a producer is routed again after failures, in virtual time."""

import asyncio
from functools import partial
from typing import Any, cast

from hub.kafka import BrokerUnreachable, Record, TopicPartition
from hub.kafka.leader_directory import LeaderDirectory
from hub.kafka.partition_queue import PartitionQueue, QueuedRecord
from hub.kafka.routing import BACKOFF_SECONDS, Router
from hub.service import ServiceTasks, no_log
from tests.virtual_time import run


class NobodyThere:
    """A cluster without a broker that responds: `asked_at` has the times of the requests."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    async def new_identity(self) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())
        raise BrokerUnreachable("x:1", "nobody is there")


def test_records_that_are_given_up_within_each_pause_do_not_keep_later_ones_from_being_tried() -> None:
    async def main() -> None:
        directory, tasks, pause = NobodyThere(), ServiceTasks("the test", no_log), BACKOFF_SECONDS[1]
        router = Router(cast(LeaderDirectory, directory), tasks, lambda *_: None)
        queue = PartitionQueue(TopicPartition("t", 0))
        queue.failures = 50
        for number in range(10):
            on_done: Any = partial(list, number)
            queue.append(QueuedRecord(Record(b"k", b"v", (), 0), 10, on_done))
            router.request(queue)
            await asyncio.sleep(0.9 * pause)
            queue.discard(on_done)
            await asyncio.sleep(0.2 * pause)
        assert len(directory.asked_at) >= 5
        await tasks.cancel()

    run(main())
