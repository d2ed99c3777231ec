"""Leases, to the microsecond: when a silent worker is noticed, when it is lost, and how far silence counts."""

from collections.abc import Iterator

import pytest
from msgspec import structs

from .harness import START_US, World, check_fold, check_log

LEASE_SECONDS = 9.0
LEASE_US = 9_000_000
MISSED_US = LEASE_US * 2 // 3


@pytest.fixture
def world() -> Iterator[World]:
    """A partition with one worker, which was heard at START_US."""
    world = World()
    world.worker(lease_seconds=LEASE_SECONDS)
    world.step()
    yield world
    check_log(world)
    check_fold(world)


def events_at(world: World, since_start_us: int, *, watermark_us: int | None = None) -> list[str]:
    """The types of the events of this moment. `watermark_us`: up to when all reports were read, now without it."""
    before, world.now_us = len(world.events), START_US + since_start_us
    read_us = START_US + (since_start_us if watermark_us is None else watermark_us)
    known = structs.replace(world.known(), time_watermark_us=read_us)
    world.commit(world.engine.process([], world.now_us, known))
    return [event.type for event in world.events[before:]]


def test_a_worker_is_missed_after_two_thirds_of_its_lease_and_lost_after_all_of_it(world: World) -> None:
    world.submit(id="t", name="a")
    world.step()
    (command,) = world.dispatched()
    world.report(command, "attempt.started", number=1)
    world.step()
    assert world.engine.next_due() == START_US + MISSED_US
    assert events_at(world, MISSED_US - 1) == []
    assert events_at(world, MISSED_US) == ["worker.heartbeat_missed"]
    assert world.last("worker.heartbeat_missed").data.silent_seconds == 6.0
    assert world.engine.next_due() == START_US + LEASE_US
    assert events_at(world, LEASE_US - 1) == []
    assert events_at(world, LEASE_US) == ["worker.lost", "attempt.lease_expired", "task.ready"]
    assert world.last("worker.lost").data.reason == "no heartbeat for 9.0 s"
    assert world.last("worker.lost").src == f"agenda/0/lease:w1/{(START_US + LEASE_US) // 1000}/0"
    assert world.last("attempt.lease_expired").data.lease_seconds == LEASE_SECONDS
    assert events_at(world, 9 * LEASE_US) == []


def test_a_worker_that_is_heard_again_has_its_whole_lease(world: World) -> None:
    assert events_at(world, LEASE_US - 1) == ["worker.heartbeat_missed"]
    world.worker(kind="worker.heartbeat", lease_seconds=LEASE_SECONDS)
    world.step()
    assert world.types()[-1] == "worker.registered"
    assert events_at(world, LEASE_US - 1 + MISSED_US - 1) == []
    assert events_at(world, LEASE_US - 1 + MISSED_US) == ["worker.heartbeat_missed"]


def test_a_worker_that_a_new_owner_knows_is_missed_after_two_thirds_of_its_lease_and_not_announced_again(world: World) -> None:
    world.crash()
    assert events_at(world, 0) == []
    restored_us = world.engine.now_us - START_US
    assert events_at(world, restored_us + MISSED_US - 1) == []
    assert events_at(world, restored_us + MISSED_US) == ["worker.heartbeat_missed"]
    world.crash()
    world.worker(kind="worker.heartbeat", lease_seconds=LEASE_SECONDS)
    world.step()
    assert world.types()[-1] == "worker.registered", "it was missed"
    world.crash()
    before = len(world.events)
    world.worker(kind="worker.heartbeat", lease_seconds=LEASE_SECONDS)
    world.step()
    assert world.events[before:] == []


@pytest.mark.parametrize("watermark_us", [0, LEASE_US - 1])
def test_silence_counts_only_up_to_what_was_read(world: World, watermark_us: int) -> None:
    assert "worker.lost" not in events_at(world, 10 * LEASE_US, watermark_us=watermark_us)
    assert "worker.lost" in events_at(world, 10 * LEASE_US, watermark_us=LEASE_US)


def test_as_long_as_nothing_is_known_of_what_was_read_nobody_is_judged(world: World) -> None:
    world.now_us += 10 * LEASE_US
    before = len(world.events)
    world.step(caught_up=False)
    assert world.events[before:] == []
