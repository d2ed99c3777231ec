"""Deletes what delivery to the subscriber of a benchmark leaves in a hub that the benchmark has not started."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..delivery import SubscriberConfig
from ..errors import ConfigurationError, HubError
from ..kafka import Cluster, delete_groups, delete_topic, describe_group

CLEANUP_SECONDS = 10.0


@asynccontextmanager
async def subscriber_of_benchmark(cluster: Cluster, use: str) -> AsyncIterator[None]:
    """The block may run delivery to the subscriber at `use`, alone. At the end its consumer group, which would fall behind for
    ever, and its topic of dead letters are deleted; a failure is only reported, on stderr.

    Raises ConfigurationError if delivery to this subscriber is running; BrokerUnreachable, ConnectionLost."""
    subscriber = SubscriberConfig(use=use)
    group = await describe_group(cluster, subscriber.group)
    if group is not None and group.members:
        raise ConfigurationError(f"{cluster} has another benchmark that delivers to {subscriber.id}; run one after the other.")
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await delete_groups(cluster, [subscriber.group])
                await delete_topic(cluster, subscriber.dead_letter_topic)
        except (HubError, OSError) as error:
            names = f"Consumer group {subscriber.group} and topic {subscriber.dead_letter_topic}"
            sys.stderr.write(f"{names} may not have been deleted: {error or type(error).__name__}\n")
