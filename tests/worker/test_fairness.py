"""Which of several partitions with work gets a free slot."""

import asyncio

from hub import TaskRegistry
from hub.kafka import partition_of
from hub.worker.fairness import RESERVED_SECONDS, STARVING_SECONDS, SlotFairness
from tests.brokers import broker_and_loop
from tests.components.running import PARTITIONS, running, until

tasks = TaskRegistry()
began: list[str] = []


@tasks.task("works")
async def works(name: str) -> None:
    began.append(name)
    await asyncio.sleep(0.5)


def ids_on(partition: int, many: int) -> list[str]:
    candidates = (f"{partition}.{index}" for index in range(10_000))
    return [one for one in candidates if partition_of(one, PARTITIONS) == partition][:many]


def test_whoever_was_refused_is_offered_a_slot_in_the_order_of_refusal_and_more_of_them_while_nobody_comes() -> None:
    fairness = SlotFairness()
    for partition in (3, 1, 2, 0, 4):
        fairness.refuse(partition, 0.0)
    assert all(fairness.is_refused(partition) for partition in range(5))
    assert [fairness.offer(1, 0.1), fairness.offer(1, 0.1), fairness.offer(1, 0.1)] == [[3], [1, 2], [0, 4]]
    assert fairness.offer(1, 0.1) == []
    assert not any(fairness.is_refused(partition) for partition in range(5))


def test_a_slot_is_reserved_for_a_partition_that_starves_and_for_no_other_until_it_comes_or_the_time_is_over() -> None:
    fairness = SlotFairness()
    fairness.refuse(1, 0.0)
    assert fairness.reserve(STARVING_SECONDS / 2) == []
    assert fairness.reserve(STARVING_SECONDS) == [1]
    now = STARVING_SECONDS + RESERVED_SECONDS / 2
    assert [fairness.may_begin(partition, 1, now) for partition in (0, 1, 2)] == [False, True, False]
    assert fairness.may_begin(0, 2, now), "only one slot is reserved"
    assert not fairness.may_begin(1, 0, now)
    fairness.begin(1)
    assert fairness.may_begin(0, 1, now)

    fairness.refuse(2, 0.0)
    assert fairness.reserve(10.0) == [2]
    assert not fairness.may_begin(0, 1, 10.0)
    assert fairness.may_begin(0, 1, 10.0 + RESERVED_SECONDS)


def test_who_starves_is_told_by_the_time_since_it_was_refused_and_one_reservation_follows_another() -> None:
    fairness = SlotFairness()
    fairness.refuse(1, 5.0)
    fairness.refuse(2, 5.0)
    assert fairness.reserve(5.0 + STARVING_SECONDS / 2) == []
    assert fairness.reserve(5.0 + STARVING_SECONDS) == [1]
    assert fairness.reserve(5.0 + STARVING_SECONDS + RESERVED_SECONDS) == [2]


def test_a_reservation_that_was_used_or_is_over_takes_nothing_from_others() -> None:
    for used in (True, False):
        fairness = SlotFairness()
        for partition in (1, 2):
            fairness.refuse(partition, 0.0)
        assert fairness.reserve(STARVING_SECONDS) == [1]
        if used:
            fairness.begin(1)
        now = STARVING_SECONDS + (RESERVED_SECONDS / 2 if used else RESERVED_SECONDS)
        assert fairness.offer(1, now) == [2]


def test_a_slot_that_is_reserved_is_offered_to_nobody_else() -> None:
    fairness = SlotFairness()
    for partition in (1, 2):
        fairness.refuse(partition, 0.0)
    assert fairness.reserve(STARVING_SECONDS) == [1]
    assert fairness.reserve(STARVING_SECONDS) == []
    assert fairness.offer(1, STARVING_SECONDS) == []
    assert fairness.offer(2, STARVING_SECONDS) == [2]


def test_a_partition_starves_by_the_time_since_it_was_refused() -> None:
    fairness = SlotFairness()
    fairness.refuse(1, 100.0)
    assert fairness.reserve(100.0 + STARVING_SECONDS / 2) == []
    assert fairness.reserve(100.0 + STARVING_SECONDS) == [1]


async def test_a_backlog_of_one_partition_does_not_keep_the_others_from_the_only_slot() -> None:
    began.clear()
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, slots=1, grace_seconds=1) as world:
            for one in ids_on(0, 60):
                await world.hub.submit("works", {"name": "backlog"}, id=one)
            await until(lambda: len(began) >= 2)
            for partition in (1, 2, 3):
                await world.hub.submit("works", {"name": f"other {partition}"}, id=ids_on(partition, 1)[0])
            await until(lambda: len(set(began)) == PARTITIONS, seconds=60)
            assert world.workers[0].stats()["released"] <= 3 * len(began)
