"""Delivery is killed in every place: no event is lost, order is kept, dead letters are complete, the past calls nobody."""

from pathlib import Path

import pytest

from .kill_delivery import ALL, kill_often

KILLS = 12

pytestmark = pytest.mark.slow


async def test_whatever_part_of_delivery_is_killed_every_subscriber_gets_every_event(tmp_path: Path) -> None:
    killed = await kill_often(tmp_path, KILLS, seed=1)
    assert killed.kills == {"delivery": 3, "fork server": 3, "subscriber": 6}
    lines = [line for id in ALL for line in killed.lines(id) if not line.replay]
    assert len(lines) > len({(line.key, id) for id in ALL for line in killed.lines(id)}), "some events were delivered again"
