"""The order of ready tasks: entries that are no longer current have no effect."""

import random

from hub.core.state.ready import AGING_SECONDS, Bucket, ReadyQueue
from hub.core.times import SECOND_US

A: Bucket = ("q1", "default", "a", None)
B: Bucket = ("q2", "default", "b", None)


def taken(ready: ReadyQueue) -> list[tuple[str, Bucket]]:
    """All tasks in the order in which they are dispatched if every bucket has workers."""
    found = []
    while heads := ready.heads():
        _, _, task, bucket = heads[0]
        found.append((task, bucket))
        ready.take(bucket)
    return found


def test_a_task_that_is_ready_again_in_another_bucket_is_only_there() -> None:
    ready = ReadyQueue()
    ready.push("t", A, 0, 1)
    ready.remove("t")
    ready.push("t", B, 0, 2)
    assert ready.head(A) is None
    assert A not in ready.buckets
    assert (len(ready), taken(ready)) == (1, [("t", B)])


def test_a_task_that_is_ready_again_in_the_same_bucket_has_its_new_rank() -> None:
    ready = ReadyQueue()
    ready.push("t", A, 1, 0)
    ready.remove("t")
    ready.push("first", A, 0, 10)
    ready.push("t", A, 0, 20)
    assert taken(ready) == [("first", A), ("t", A)]
    assert ready.entries == 0


def test_a_sweep_keeps_the_current_entries_only() -> None:
    ready = ReadyQueue()
    for number in range(3):
        ready.push("t", A, 0, number)
        ready.remove("t")
    ready.push("t", B, 0, 3)
    ready.rebuild()
    assert (ready.entries, taken(ready)) == (1, [("t", B)])


def test_any_sequence_is_as_with_a_sorted_list() -> None:
    chance = random.Random(7)
    for _ in range(200):
        ready, model = ReadyQueue(), dict[str, tuple[int, int, Bucket]]()
        for number in range(chance.randrange(1, 40)):
            task = f"t{chance.randrange(6)}"
            if chance.random() < 0.6:
                bucket, priority, created_us = chance.choice((A, B)), chance.randrange(3), chance.randrange(5)
                ready.push(task, bucket, priority, created_us)
                model[task] = (created_us - priority * AGING_SECONDS * SECOND_US, number, bucket)
            else:
                ready.remove(task)
                model.pop(task, None)
            if chance.random() < 0.2:
                ready.rebuild()
            assert len(ready) == len(model)
        expected = sorted(model.items(), key=lambda one: one[1][:2])
        assert taken(ready) == [(task, bucket) for task, (_, _, bucket) in expected]
