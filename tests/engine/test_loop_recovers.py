"""The loop goes on: past a record that the engine cannot decide, and from a log that is ahead of the clock."""

from typing import Any

import pytest

import hub.engine.partition as partition_module
from hub.broker import BrokerServer
from hub.core.consequences import place
from hub.core.times import us_of
from tests.engine.test_loop import Owner, broker, events, submit, until

__all__ = ["broker"]  # the fixture


async def test_a_record_that_cannot_be_decided_is_found_among_many_and_set_aside(
    broker: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = place

    def broken(turn: Any, task: Any) -> None:
        if task.id == "t-3":
            raise ZeroDivisionError("a mistake of ours")
        real(turn, task)

    monkeypatch.setattr(partition_module, "place", broken)
    owner = await Owner(broker).started()
    await submit(broker, range(7))
    log = await until(broker, "task.created", 6)
    assert [event.subject for event in log if event.type == "task.created"] == [f"t-{number}" for number in (0, 1, 2, 4, 5, 6)]
    [aside] = [event for event in log if event.type == "engine.report_dead_lettered"]
    assert "a mistake of ours" in aside.data.reason
    await owner.stop()
    second = await Owner(broker).started()  # it stands behind it
    await submit(broker, range(7, 8))
    await until(broker, "task.created", 7)
    await second.stop()


async def test_time_goes_on_from_the_log_where_the_clock_was_set_back(broker: BrokerServer) -> None:
    first = await Owner(broker).started()
    await submit(broker, range(1))
    await until(broker, "task.created", 1)
    await first.stop()
    written_us = us_of((await events(broker))[-1].time)
    second = Owner(broker)
    clock = second.loop._now_us
    second.loop._now_us = lambda: clock() - 3_600_000_000
    await second.started()
    assert 0 <= second.loop._time() - written_us < 60_000_000
    await second.stop()
    times = [event.time for event in await events(broker)]
    assert times == sorted(times)
