"""Incidents: opened once, closed by a success, delayed while the pager is away, never opened by the past."""

from contextlib import AsyncExitStack
from typing import Any, ClassVar

from hub.testing import HttpEndpoint, HttpReply, SubscriberContract, SubscriberHarness

from .pager import Pager

CHARGE = {"taskname": "charge"}
FIRING, RESOLVED = ("taskhub/charge", "firing"), ("taskhub/charge", "resolved")


class Duty:
    """A pager and its destination, which answers by a script."""

    def __init__(self, *script: HttpReply) -> None:
        self._script = script
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Duty":
        self.endpoint = await self._stack.enter_async_context(HttpEndpoint(self._script))
        harness = SubscriberHarness(Pager, {"url": f"{self.endpoint.url}/incidents", "token": "s3cret"})
        self.harness = await self._stack.enter_async_context(harness)
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._stack.__aexit__(*raised)

    @property
    def posted(self) -> list[tuple[str, str]]:
        """What was posted: key and status."""
        return [(one.json["key"], one.json["status"]) for one in self.endpoint.requests]


async def test_an_incident_is_opened_once_and_closed_by_a_success() -> None:
    async with Duty() as duty:
        for event in ("task.completed", "task.failed", "task.failed", "task.completed", "task.completed"):
            await duty.harness.feed(event, envelope=CHARGE)
        assert duty.posted == [FIRING, RESOLVED]
        assert duty.endpoint.requests[0].headers["authorization"] == "Bearer s3cret"
        assert duty.harness.subscription.state.keys() == []


async def test_incidents_of_other_tasks_are_their_own() -> None:
    async with Duty() as duty:
        await duty.harness.feed("task.failed", envelope=CHARGE)
        await duty.harness.feed("task.failed", envelope={"taskname": "ship"})
        await duty.harness.feed("task.completed", envelope={"taskname": "ship"})
        assert duty.posted == [FIRING, ("taskhub/ship", "firing"), ("taskhub/ship", "resolved")]
        assert duty.harness.subscription.state.keys() == ["charge"]


async def test_while_the_pager_is_away_or_in_maintenance_incidents_wait_in_order() -> None:
    async with Duty(HttpReply(503), HttpReply(409)) as duty:
        await duty.harness.feed("task.failed", envelope=CHARGE)
        await duty.harness.feed("task.completed", envelope=CHARGE)
        await duty.harness.advance(seconds=10)
        assert duty.posted == [FIRING, FIRING], "an outage, then a maintenance"
        await duty.harness.advance(minutes=4)
        assert len(duty.posted) == 2
        await duty.harness.advance(minutes=2)
        assert duty.posted[2:] == [FIRING, RESOLVED]
        assert not duty.harness.dead_letters


async def test_an_incident_that_the_pager_rejects_is_a_dead_letter() -> None:
    async with Duty(HttpReply(400)) as duty:
        await duty.harness.feed("task.failed", envelope=CHARGE)
        assert len(duty.harness.dead_letters) == 1
        assert duty.harness.subscription.state.keys() == []


async def test_nobody_is_paged_for_the_past() -> None:
    async with Duty() as duty:
        await duty.harness.feed("task.failed", envelope=CHARGE, replay=True)
        assert duty.posted == []


class TestPager(SubscriberContract):
    """Nobody listens at the address: incidents wait."""

    plugin = Pager
    settings: ClassVar[dict[str, Any]] = {"url": "http://127.0.0.1:9/incidents", "token": "s3cret"}
