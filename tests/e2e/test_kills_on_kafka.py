"""kill -9 of engine and worker on Apache Kafka; see `test_kills.py`."""

from pathlib import Path

import pytest

from hub.kafka import Cluster, ensure_topics

from .load import KILLS, SECONDS, TASKS, Load, during
from .processes import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 2 + 120)]


@pytest.mark.kafka
@pytest.mark.parametrize("role", ["engine", "worker"])
async def test_on_apache_kafka_a_killed_process_costs_nothing(tmp_path: Path, role: str, private_kafka: str) -> None:
    await ensure_topics(Cluster.of(private_kafka), partitions=4)
    async with Installation(tmp_path, bootstrap=private_kafka) as hub:
        await hub.together(hub.engine(), hub.worker())
        load = Load(hub.bootstrap, TASKS)
        await during(load, hub.processes[role].restart, times=KILLS, timeout_seconds=SECONDS * 2, seed=1)
        hub.owes_the_end_of(load.acknowledged)
        assert load.ended == TASKS // 4
