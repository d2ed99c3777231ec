"""Waits for the requirements of a process: a reachable broker, and the hub's topics."""

import asyncio

from ..kafka import BrokerUnreachable, Cluster, TopicMissing, describe_partitions, wait_until_reachable
from ..logs import Logger

log = Logger(__name__)

POLL_SECONDS = 0.05


async def wait_for_hub(cluster: Cluster, timeout_seconds: float) -> int:
    """Wait until the broker is reachable and has the hub's topics. Returns the number of engine partitions.

    Raises `BrokerUnreachable` or `TopicMissing` after `timeout_seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    told = False
    while True:
        left = max(0.1, deadline - loop.time())
        try:
            await wait_until_reachable(cluster, min(left, 0.5) if not told else left)
            return await describe_partitions(cluster)
        except (BrokerUnreachable, TopicMissing) as error:
            if loop.time() > deadline and isinstance(error, BrokerUnreachable):
                reason = error.reason.partition("; waited")[0]
                raise BrokerUnreachable(str(cluster), f"{reason}; waited {timeout_seconds:g} s") from None
            if loop.time() > deadline:
                raise
            if not told and isinstance(error, BrokerUnreachable):
                told = True
                log.info("waiting for the broker", action="broker_awaited", bootstrap=str(cluster), seconds=timeout_seconds)
        await asyncio.sleep(POLL_SECONDS)
