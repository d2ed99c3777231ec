"""Random schedules of a whole hub, each on one seed (see README.md). Afterwards everything must have ended, and the checker must
find nothing.

`HUB_SEEDS=20000` runs so many; `HUB_SEED=123` runs the one that failed.
"""

import functools
import os
import subprocess
import sys

import pytest

from hub.core.transitions import TRANSITIONS

from .coverage import Coverage
from .world import simulate

SEEDS = [int(os.environ["HUB_SEED"])] if "HUB_SEED" in os.environ else range(int(os.environ.get("HUB_SEEDS", "120")))

DIGEST = "from tests.simulation.world import simulate; print(*(simulate(seed).digest() for seed in {}))"
SOME_SEEDS = (3, 4, 6, 9, 18, 23)
"""Engines inside and beside the broker's process, with and without snapshots, with and without a sync of every block."""


@functools.cache
def coverage_of(seed: int) -> Coverage:
    """What happened in the schedule of `seed`."""
    return simulate(seed).coverage


@pytest.mark.parametrize("seed", SEEDS)
def test_every_schedule_heals_and_its_log_tells_one_true_story(seed: int) -> None:
    coverage_of(seed)


def test_a_seed_decides_every_byte_in_any_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST.format(SOME_SEEDS)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_schedules_are_as_large_and_as_rough_as_they_are_to_be() -> None:
    coverage = Coverage()
    for seed in range(40):
        coverage.add(coverage_of(seed))
    average = {name: number / 40 for name, number in coverage.schedules.items()}
    assert average["partitions"] >= 2
    assert average["workers"] >= 3
    assert average["tasks"] >= 30
    assert average["events"] >= 300
    assert sum(coverage.faults.values()) / 40 >= 5
    assert coverage.faults["broker_crash"] + coverage.faults["engine_crash"] >= 40
    assert not {row.name for row in TRANSITIONS} - set(coverage.events)
