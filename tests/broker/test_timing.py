"""Timers of the core."""

from functools import partial
from typing import Any

from hub.broker.timing import COMPACT_FROM, Deferred, TimerHeap

from .test_groups import ManualClock


def test_timers_run_in_order_and_only_once() -> None:
    clock = ManualClock()
    timers = TimerHeap(clock)
    ran: list[object] = []
    earlier: list[float] = []
    timers.on_earlier = earlier.append
    for seconds in (3, 1, 2):
        timers.after(seconds, partial(ran.append, seconds))
    timers.after(2.5, lambda: ran.append("cancelled")).cancel()
    assert earlier == [1003.0, 1001.0]
    clock.seconds += 2
    timers.run_due()
    timers.run_due()
    assert ran == [1, 2]
    assert timers.next_deadline == 1003.0


def test_cancelled_timers_take_no_room() -> None:
    clock = ManualClock()
    timers = TimerHeap(clock)
    kept = [timers.after(60, lambda: None) for _ in range(10)]
    for _ in range(100_000):
        timers.after(60, lambda: None).cancel()
    assert len(timers._heap) < 2 * COMPACT_FROM
    assert sum(timer.callback is not None for timer in timers._heap) == len(kept)
    clock.seconds += 61
    timers.run_due()
    assert timers.next_deadline is None
    assert timers._dead == 0


def test_an_answer_is_given_once() -> None:
    answer = Deferred()
    got: list[Any] = []
    undone: list[int] = []
    answer.on_abandoned = lambda: undone.append(1)
    answer.then(got.append)
    answer.resolve("first")
    answer.resolve("second")
    answer.abandon()
    assert (got, undone) == (["first"], [])
    gone = Deferred()
    gone.on_abandoned = lambda: undone.append(2)
    gone.then(got.append)
    gone.abandon()
    gone.resolve("late")
    assert (got, undone) == (["first"], [2])
