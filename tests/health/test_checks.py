"""The checks of the roles, on values: what exceeds its limit, and what the detail says."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hub.delivery import SubscriberStatus
from hub.delivery.status import State
from hub.engine import PartitionProgress
from hub.engine.progress import LoopProgress
from hub.runtime.checks import Checks, delivery_checks, engine_checks
from hub.runtime.health import HealthLimits
from hub.runtime.tuning import health_limits
from hub.settings import HealthSection

LIMITS = HealthLimits(commit_age_max_seconds=30, watermark_age_max_seconds=20, intake_lag_max=1000, delivery_lag_max=50)
CURRENT = PartitionProgress(0, lag=3, commit_age_seconds=0.1, watermark_age_seconds=0.2, rejects=False)


@dataclass
class FakeEngine:
    """An engine with these partitions."""

    partitions: list[PartitionProgress] = field(default_factory=list)

    def progress(self) -> list[PartitionProgress]:
        """See the engine."""
        return self.partitions


def failed(checks: Checks) -> dict[str, str]:
    """Details of the failed checks."""
    return {name: result.detail for name, check in checks.items() if not (result := check()).ok}


def test_an_engine_that_keeps_up_is_ready_and_so_is_one_without_partitions() -> None:
    engine = FakeEngine([CURRENT, CURRENT._replace(partition=1)])
    checks = engine_checks(engine, LIMITS)
    assert failed(checks) == {}
    assert checks["intake_lag"]().detail == "partition 0: 3 records of hub.intake are not decided"
    engine.partitions = []
    assert failed(checks) == {}


@pytest.mark.parametrize(
    ("change", "name", "detail"),
    [
        ({"lag": 1001}, "intake_lag", "partition 1: 1,001 records of hub.intake are not decided (limit 1000)"),
        (
            {"commit_age_seconds": 30.5},
            "commit_age",
            "partition 1: 30.5 s since input was committed or none was waiting (limit 30)",
        ),
        ({"watermark_age_seconds": 21.0}, "watermark_age", "partition 1: the time watermark is 21.0 s old (limit 20)"),
        ({"rejects": True}, "disk_space", "the broker's disk is almost full: submissions are rejected"),
    ],
)
def test_the_worst_partition_decides(change: dict[str, Any], name: str, detail: str) -> None:
    engine = FakeEngine([CURRENT, CURRENT._replace(partition=1, **change), CURRENT._replace(partition=2)])
    assert failed(engine_checks(engine, LIMITS)) == {name: detail}


def test_a_limit_of_zero_is_none() -> None:
    old = PartitionProgress(0, 10**9, 1e9, 1e9, False)
    assert failed(engine_checks(FakeEngine([old]), HealthLimits(0, 0, 0, 0))) == {}


SUBSCRIBER = SubscriberStatus(id="console", use="console", state="running")


@pytest.mark.parametrize(
    ("state", "works"),
    [
        ("running", True),
        ("starting", True),
        ("waiting", True),
        ("reconnecting", False),
        ("blocked", False),
        ("failed", False),
        ("stopped", False),
    ],
)
def test_a_subscriber_that_receives_nothing_is_named_with_its_error(state: State, works: bool) -> None:
    one = replace(SUBSCRIBER, id="pager", state=state, error=None if works else "at https://user:pass-word@host: " + 500 * "x")
    (detail,) = list(failed(delivery_checks(lambda: [SUBSCRIBER, one], LIMITS)).values()) or [""]
    assert detail.startswith("" if works else f"pager is {state}: at https://user:**********@host: x")
    assert len(detail) < 300
    assert bool(detail) is not works


def test_the_lag_of_subscribers_has_no_limit_unless_configured() -> None:
    late = replace(SUBSCRIBER, lag=51)
    assert failed(delivery_checks(lambda: [late], LIMITS)) == {
        "lag": "subscriber console: 51 records of hub.events are not acknowledged (limit 50)"
    }
    assert failed(delivery_checks(lambda: [late], HealthLimits())) == {}


def test_the_table_of_the_settings_is_the_limits() -> None:
    assert health_limits(None) == health_limits(HealthSection()) == HealthLimits()
    assert HealthSection.model_fields.keys() == set(HealthLimits._fields)
    assert health_limits(HealthSection(intake_lag_max=5)).intake_lag_max == 5


# The progress of a partition


class Clock:
    """A time in seconds that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ages_grow_from_the_start_until_the_first_turn() -> None:
    clock = Clock()
    progress = LoopProgress(clock)
    clock.now += 7
    assert (progress.commit_age_seconds, progress.watermark_age_seconds, progress.lag) == (7, 7, 0)


def test_a_loop_without_input_is_current_and_one_that_decides_is_too() -> None:
    clock = Clock()
    progress = LoopProgress(clock)
    for position, end in ((5, 5), (5, 5), (10, 500), (20, 900)):
        clock.now += 60
        progress.turned(position=position, end=end, watermark_age_us=None)
        assert progress.commit_age_seconds == 0
    assert progress.lag == 880


def test_input_that_is_not_decided_grows_old_although_the_loop_turns() -> None:
    """It may be hidden by an open transaction."""
    clock = Clock()
    progress = LoopProgress(clock)
    progress.turned(position=5, end=5, watermark_age_us=0)
    for _ in range(4):
        clock.now += 10
        progress.turned(position=5, end=6, watermark_age_us=None)
    assert progress.commit_age_seconds == 40
    progress.turned(position=6, end=6, watermark_age_us=None)
    assert progress.commit_age_seconds == 0


def test_the_watermark_is_as_old_as_the_loop_said_and_grows_older_while_it_is_stuck() -> None:
    clock = Clock()
    progress = LoopProgress(clock)
    progress.turned(position=0, end=9, watermark_age_us=2_500_000)
    assert progress.watermark_age_seconds == 2.5
    clock.now += 4
    assert progress.watermark_age_seconds == 6.5
