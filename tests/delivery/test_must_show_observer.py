"""An observer ends when it is stopped, whatever its client does with a cancellation."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hub.delivery.observing import Observation, SubscriberObserver
from hub.delivery.status import SubscriberStatus

STOP_SECONDS = 15


async def test_an_observer_whose_client_ignores_a_cancellation_can_be_stopped() -> None:
    sending = asyncio.Event()
    sent: list[Observation] = []

    async def put(observations: Sequence[Observation]) -> None:
        sending.set()
        with suppress(asyncio.CancelledError):  # as a client does that is closing its connection
            await asyncio.sleep(3600)
        sent.extend(observations)

    observer = SubscriberObserver(lambda: [SubscriberStatus("pager", "pagerduty", "running")], put)
    observer.start()
    observer.wake()
    await sending.wait()
    async with asyncio.timeout(STOP_SECONDS):
        await observer.stop()
    assert [one.subscriber for one in sent] == ["pager"]
