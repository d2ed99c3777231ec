"""The demo's tasks on a hub in memory: the order completes at the expected times."""

import pytest

from hub import TaskHandle
from hub.demo import EXPECTED, order_submission
from hub.demo.app import tasks
from hub.testing import HubInMemory
from schemas import step_id


@pytest.fixture(autouse=True)
def packing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps in a thread, where only real time passes."""
    monkeypatch.setattr("hub.demo.app.PACKING_STEP_SECONDS", 0.0)


async def fulfil(hub: HubInMemory) -> TaskHandle:
    """The order, with the time that it needs."""
    (order,) = await hub.submit_many([order_submission("order-7", 7)])
    await hub.advance(seconds=10)
    return order


async def test_every_step_of_the_order_ends_as_it_should() -> None:
    async with HubInMemory(tasks) as hub:
        order = await fulfil(hub)
        ends = {key: hub.events_of(step_id(order.id, key))[-1] for key in EXPECTED}
        assert {key: (event.to_state, event.data.attempt) for key, event in ends.items()} == EXPECTED
        assert (await order.result())["confirm"].startswith("Dear Ada, your parcel P-7")


async def test_charging_is_tried_again_and_the_courier_comes_a_second_later() -> None:
    async with HubInMemory(tasks) as hub:
        order = await fulfil(hub)
        assert len(hub.events_of(step_id(order.id, "charge"), "task.retry_scheduled")) == 1
        assert len(hub.events_of(step_id(order.id, "ship"), "task.scheduled")) == 1
        assert hub.events_of(step_id(order.id, "pack"), "task.progressed")[-1].data.percent == 100
