"""The agenda: what is due, in which order, and what waits for unread reports."""

import pytest

from hub.core.state.agenda import INTERVAL_US, LAST_INTERVAL, TIMEOUTS, Agenda


def due(agenda: Agenda, now_us: int, watermark_us: int | None) -> list[str]:
    """The tasks of all entries that are due, in order."""
    taken = []
    while (entry := agenda.pop_due(now_us, watermark_us)) is not None:
        taken.append(entry[2])
    return taken


def test_entries_are_due_in_the_order_of_their_times_and_equal_ones_in_that_of_their_addition() -> None:
    agenda = Agenda()
    for at, kind, task in ((20, "start", "c"), (10, "start", "a"), (20, "total", "d"), (10, "expire", "b"), (30, "start", "e")):
        agenda.add(at, kind, task)
    assert (len(agenda), agenda.added, agenda.next_due()) == (5, 5, 10)
    assert due(agenda, 9, 9) == []
    assert due(agenda, 20, 20) == ["a", "b", "c", "d"]
    assert (len(agenda), agenda.added, agenda.next_due()) == (1, 5, 30)


@pytest.mark.parametrize("kind", sorted(TIMEOUTS))
def test_a_timeout_waits_for_its_time_and_for_what_was_said_until_then(kind: str) -> None:
    agenda = Agenda()
    agenda.add(10, kind, "t", 7)
    for now_us, watermark_us in ((10, None), (10, 9), (9, 10), (99, 9)):
        assert agenda.pop_due(now_us, watermark_us) is None
    assert agenda.pop_due(10, 10) == (10, kind, "t", 7)
    assert agenda.next_due() is None


def test_what_is_no_timeout_does_not_wait_for_anybody() -> None:
    agenda = Agenda()
    agenda.add(5, "total", "timeout")
    agenda.add(10, "retry", "t")
    assert due(agenda, 10, None) == ["t"]
    assert agenda.next_due() == 5


def test_entries_that_nobody_wants_are_swept_out_and_the_order_stays() -> None:
    agenda = Agenda()
    for at in range(20, 0, -1):
        agenda.add(at, "total" if at % 2 else "start", f"t{at}")
    agenda.keep(lambda kind, task: kind == "start" or task in ("t3", "t1"))
    assert len(agenda) == 12
    assert sorted(task for _, _, task, _ in agenda.entries()) == sorted([f"t{at}" for at in range(2, 21, 2)] + ["t1", "t3"])
    assert due(agenda, 6, 6) == ["t1", "t2", "t3", "t4", "t6"]


def test_entries_that_nobody_wants_are_dropped_when_they_are_the_first() -> None:
    agenda = Agenda()
    for at in range(1, 7):
        agenda.add(at, "total" if at % 2 else "start", f"t{at}")
    agenda.add(INTERVAL_US, "start", "later")
    assert due(agenda, 0, 0) == []
    agenda.drop_first(lambda kind, task: task in ("t3", "t6"))
    assert [entry[2] for entry in sorted(agenda.entries())] == ["t3", "t5", "t6", "later"]
    assert agenda.next_due() == 3
    agenda.drop_first(lambda kind, task: False)
    assert (len(agenda), agenda.next_due()) == (1, INTERVAL_US)


def test_what_is_left_after_a_sweep_is_due_in_its_order() -> None:
    agenda = Agenda()
    for at in (0, 5, 1, 6, 7, 2, 3):
        agenda.add(at, "start", f"t{at}")
    agenda.keep(lambda kind, task: task not in ("t0", "t1"))
    assert due(agenda, 9, None) == ["t2", "t3", "t5", "t6", "t7"]


def test_timers_of_later_slots_are_due_in_their_order_whenever_they_were_added() -> None:
    agenda = Agenda()
    assert due(agenda, 0, 0) == []
    for interval in (3, 1, 2, 1, 0):
        for number, kind in enumerate(("start", "total", "retry")):
            agenda.add(interval * INTERVAL_US + number, kind, f"{interval}.{number}", interval)
    assert (len(agenda), agenda.added, agenda.next_due()) == (15, 15, 0)
    assert due(agenda, INTERVAL_US - 1, INTERVAL_US) == ["0.0", "0.1", "0.2"]
    assert agenda.next_due() == INTERVAL_US
    agenda.add(INTERVAL_US, "start", "late")
    assert due(agenda, INTERVAL_US, INTERVAL_US) == ["1.0", "1.0", "late"]
    agenda.add(INTERVAL_US, "start", "later")
    assert due(agenda, 9 * INTERVAL_US, 9 * INTERVAL_US) == [
        "later",
        "1.1",
        "1.1",
        "1.2",
        "1.2",
        "2.0",
        "2.1",
        "2.2",
        "3.0",
        "3.1",
        "3.2",
    ]
    assert (len(agenda), agenda.next_due()) == (0, None)


@pytest.mark.parametrize("intervals", [(2, 2, 2, 2), (2, 0, 2, 3), ()])
def test_timers_that_are_added_as_columns_are_those_added_one_by_one(intervals: tuple[int, ...]) -> None:
    one, other = Agenda(), Agenda()
    for agenda in (one, other):
        agenda.add(2 * INTERVAL_US + 1, "start", "first")
    due_us = [interval * INTERVAL_US + at for interval, at in zip(intervals, (3, 1, 1, 2), strict=False)]
    kinds, tasks, marks = ["start", "retry", "start", "start"], ["a", "b", "c", "d"], [0, 7, 0, 0]
    length = len(due_us)
    one.add_all(due_us, kinds[:length], tasks[:length], marks[:length])
    for timer in zip(due_us, kinds, tasks, marks, strict=False):
        other.add(*timer)
    assert (len(one), one.added, one.next_due()) == (len(other), other.added, other.next_due())
    assert sorted(one.entries()) == sorted(other.entries())
    assert due(one, 9 * INTERVAL_US, None) == due(other, 9 * INTERVAL_US, None)


def test_timers_of_later_slots_are_swept_too() -> None:
    agenda = Agenda()
    for number in range(6):
        agenda.add(number * INTERVAL_US, "start", f"t{number}", number)
    agenda.keep(lambda kind, task: task in ("t2", "t5"))
    assert (len(agenda), agenda.next_due()) == (2, 2 * INTERVAL_US)
    assert sorted(agenda.entries()) == [(2 * INTERVAL_US, "start", "t2", 2), (5 * INTERVAL_US, "start", "t5", 5)]
    assert due(agenda, 9 * INTERVAL_US, None) == ["t2", "t5"]


@pytest.mark.parametrize("at", [-1, LAST_INTERVAL * INTERVAL_US, 2**63, 2**70])
def test_a_timer_may_have_any_time(at: int) -> None:
    agenda = Agenda()
    agenda.add(at, "start", "t")
    assert due(agenda, at - 1, None) == []
    assert due(agenda, at, None) == ["t"]


def test_only_some_of_many_unwanted_timers_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.core.state.agenda.DROPPED_AT_ONCE", 3)
    agenda = Agenda()
    for number in range(1, 9):
        agenda.add(number, "total" if number % 2 else "start", f"t{number}")
    assert due(agenda, 0, 0) == []
    left = []
    for _ in range(4):
        agenda.drop_first(lambda kind, task: task == "t8")
        left.append(len(agenda))
    assert left == [5, 2, 1, 1]
    assert agenda.next_due() == 8
