"""kill -9 of each role at random times under load: all tasks end, no acknowledged submission is lost, the checker has no
findings.

The default is short (some hundred tasks, two kills); set HUB_KILLS=10 HUB_TASKS=5000 for the long form.
"""

from pathlib import Path

import pytest

from .load import KILLS, SECONDS, TASKS, Load, during, everything_was_delivered
from .processes import HubProcess, Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 120)]

CASES = [("broker+engine", 1), ("broker+engine", 4), ("engine", 4), ("worker", 4), ("delivery", 1), ("broker", 4)]
"""The process that is killed, and the number of partitions: one and several where the process depends on it."""


@pytest.mark.parametrize(("role", "partitions"), CASES)
async def test_on_the_embedded_broker_a_killed_process_costs_nothing(tmp_path: Path, role: str, partitions: int) -> None:
    async with Installation(tmp_path, partitions=partitions) as hub:
        inside = role == "broker+engine"
        broker = await hub.broker(engine=inside)
        await hub.together(hub.worker(), hub.delivery(), *([] if inside else [hub.engine()]))
        victims: dict[str, HubProcess] = {"broker+engine": broker, **hub.processes}
        load = Load(hub.bootstrap, TASKS)
        await during(load, victims[role].restart, times=KILLS, timeout_seconds=SECONDS, seed=partitions)
        assert victims[role].kills == KILLS
        hub.owes_the_end_of(load.acknowledged)
        assert load.ended == TASKS // 4
        await everything_was_delivered(hub.bootstrap, partitions, tmp_path / "delivered")
