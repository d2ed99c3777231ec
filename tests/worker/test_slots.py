"""The guarantees of the desk for any order of commands, ends and times; it is pure, so no handler runs."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.worker.attempts import Attempt
from hub.worker.effects import (
    BeatSoon,
    BeginBody,
    Effect,
    GiveUp,
    GrantBody,
    ReportCancelled,
    ReportReleased,
    ReportStanding,
    Standing,
    StopBody,
)
from hub.worker.fairness import STARVING_SECONDS
from hub.worker.slots import HOLD_SECONDS, Slots
from schemas import CancelAttempt, EngineAnnounced, GrantAttempt, WorkWanted

from .desks import command

GRACE_SECONDS = 0.3

#: (what, a number to choose with, seconds that pass before it)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "run",
                "run",
                "run",
                "run",
                "again",
                "cancel",
                "end",
                "end",
                "end",
                "hang",
                "return",
                "settle",
                "want",
                "lose",
                "tick",
                "drain",
            ]
        ),
        st.integers(0, 1_000),
        st.sampled_from([0.0, 0.01, 0.06, 0.6, 1.1]),
    ),
    max_size=120,
)


class Simulated:
    """A worker without anything but its desk: what runs, what hangs, what was reported. Checks every promise after each step."""

    def __init__(self, slots: int, partitions: int) -> None:
        self.slots, self.partitions, self.now = slots, partitions, 0.0
        self.desk = Slots(slots, partitions, grace_seconds=GRACE_SECONDS)
        self.accepted: dict[str, int] = {}
        self.running: dict[str, Attempt] = {}
        self.hanging: list[Attempt] = []
        self.waiting: set[str] = set()
        self.ends: dict[str, list[str]] = {}
        self.unsettled: dict[str, Attempt] = {}
        self.lost: set[str] = set()
        self.log: list[Effect] = []
        self.drained = False

    def step(self, what: str, which: int, seconds: float) -> None:
        self.now += seconds
        getattr(self, f"on_{what}")(which)
        self.check()

    def on_run(self, which: int) -> None:
        token = f"{len(self.accepted)}"
        self.accepted[token] = which % self.partitions
        self.waiting.add(token)
        self.take(command(token=token, task=token, partition=self.accepted[token]))

    def on_again(self, which: int) -> None:
        if self.accepted:
            token = sorted(self.accepted)[which % len(self.accepted)]
            effects = self.take(command(token=token, task=token, partition=self.accepted[token]))
            assert effects == [], "a repeated command is ignored"

    def on_cancel(self, which: int) -> None:
        if self.accepted:
            token = sorted(self.accepted)[which % len(self.accepted)]
            effects = self.take(CancelAttempt(task=token, attempt=1, token=token, reason="no"))
            assert len(effects) <= 1

    def on_end(self, which: int) -> None:
        if (attempt := self.chosen(which)) is not None:
            self.end(attempt)
            self.carry_out(self.desk.ended(attempt, self.now))

    def on_hang(self, which: int) -> None:
        if (attempt := self.chosen(which)) is not None:
            self.end(attempt)
            self.hanging.append(attempt)
            effects = self.carry_out(self.desk.hung(attempt, self.now))
            assert not any(isinstance(effect, BeginBody) for effect in effects), "a function that hangs keeps its slot"

    def on_return(self, which: int) -> None:
        if self.hanging:
            self.hanging.pop(which % len(self.hanging))
            self.carry_out(self.desk.came_back(self.now))

    def on_settle(self, which: int) -> None:
        if self.unsettled:
            self.desk.settle(self.unsettled.pop(sorted(self.unsettled)[which % len(self.unsettled)]))

    def on_want(self, which: int) -> None:
        self.take(WorkWanted(partition=which % self.partitions, waiting=1))

    def on_lose(self, which: int) -> None:
        partition = which % self.partitions
        self.lost |= {token for token in self.waiting if self.accepted[token] == partition}
        self.waiting -= self.lost
        self.carry_out(self.desk.lease_lost(partition))

    def on_tick(self, which: int) -> None:
        self.carry_out(self.desk.tick(self.now))

    def on_drain(self, which: int) -> None:
        self.drained = True
        self.carry_out(self.desk.drain())
        assert not self.waiting, "a drain hands back everything that has not begun"

    def chosen(self, which: int) -> Attempt | None:
        return self.running[sorted(self.running)[which % len(self.running)]] if self.running else None

    def end(self, attempt: Attempt) -> None:
        del self.running[attempt.command.token]
        self.report(attempt, "ended")

    def report(self, attempt: Attempt, end: str) -> None:
        self.ends.setdefault(attempt.command.token, []).append(end)
        self.unsettled[attempt.command.token] = attempt

    def take(self, given: Any) -> list[Effect]:
        return self.carry_out(self.desk.take(given, self.now))

    def carry_out(self, effects: Any) -> list[Effect]:
        for effect in effects:
            match effect:
                case BeginBody(attempt):
                    self.waiting.remove(attempt.command.token)
                    self.running[attempt.command.token] = attempt
                case ReportReleased(attempt) | ReportCancelled(attempt):
                    self.waiting.remove(attempt.command.token)
                    self.report(attempt, type(effect).__name__)
                case StopBody(attempt):
                    assert attempt.command.token in self.running, "only what runs is stopped"
        self.log += effects
        return list(effects)

    def check(self) -> None:
        taken = len(self.running) + len(self.hanging)
        assert self.desk.running == taken <= self.slots
        assert self.desk.waiting == len(self.waiting)
        for token in self.accepted:
            places = (token in self.running) + (token in self.waiting) + (token in self.lost) + len(self.ends.get(token, []))
            assert places == 1, f"{token} is begun once, waits, was lost, or has exactly one end"
        held = sorted({*self.running, *self.waiting, *self.unsettled})
        standings = [self.desk.standing(partition) for partition in range(self.partitions)]
        assert sorted(token for one in standings for token in one.holding) == held
        for partition, one in enumerate(standings):
            assert all(self.accepted[token] == partition for token in one.holding)
            assert 0 <= one.credit <= max(self.slots, self.partitions)
            assert one.draining is self.drained
            assert one.credit == 0 or not self.drained
        if len(self.hanging) == self.slots:
            assert all(one.credit == 0 for one in standings), "no credit without a slot that could become free"


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), STEPS)
def test_the_promises_of_the_desk_hold_whatever_happens(slots: int, partitions: int, steps: list[tuple[str, int, float]]) -> None:
    worker = Simulated(slots, partitions)
    for step in steps:
        worker.step(*step)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), STEPS)
def test_the_same_steps_have_the_same_effects(slots: int, partitions: int, steps: list[tuple[str, int, float]]) -> None:
    def effects() -> str:
        worker = Simulated(slots, partitions)
        for step in steps:
            worker.step(*step)
        return str(
            [
                [type(effect).__name__, *(one if type(one) is not Attempt else one.command.token for one in effect)]
                for effect in worker.log
            ]
        )

    assert effects() == effects()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), STEPS)
def test_when_everything_ends_and_settles_the_whole_credit_is_there_again(
    slots: int, partitions: int, steps: list[tuple[str, int, float]]
) -> None:
    worker = Simulated(slots, partitions)
    for what, which, seconds in steps:
        worker.step("tick" if what == "drain" else what, which, seconds)
    for _ in range(len(worker.accepted) + len(worker.hanging) + 1):
        for what in ("return", "end", "settle", "tick"):
            worker.step(what, 0, HOLD_SECONDS)
    for _ in range(2 * partitions):  # offers, one after the other
        worker.step("tick", 0, STARVING_SECONDS)
    assert not worker.running
    assert not worker.waiting
    credits = [worker.desk.standing(partition).credit for partition in range(partitions)]
    assert sum(credits) == max(slots, partitions)
    assert min(credits) >= 1


# One by one


def begun(effects: Any) -> list[str]:
    return [effect.attempt.command.token for effect in effects if isinstance(effect, BeginBody)]


def desk_with(slots: int, partitions: int, tokens: str) -> tuple[Slots, dict[str, Attempt]]:
    """A desk that was given these tokens in order at time 0, all of partition 0."""
    desk, attempts = Slots(slots, partitions, grace_seconds=GRACE_SECONDS), {}
    for token in tokens:
        for effect in desk.take(command(token=token), 0.0):
            assert isinstance(effect, BeginBody)
            attempts[token] = effect.attempt
    return desk, attempts


def test_what_waits_begins_in_the_order_of_arrival_when_a_slot_is_free() -> None:
    desk, attempts = desk_with(2, 1, "abcd")
    assert sorted(attempts) == ["a", "b"]
    assert begun(desk.ended(attempts["b"], 1.0)) == ["c"]
    assert begun(desk.ended(attempts["a"], 1.0)) == ["d"]


def test_the_only_partition_keeps_what_waits_and_one_of_several_gets_it_back_after_its_standing() -> None:
    desk, _ = desk_with(1, 1, "ab")
    assert list(desk.tick(10 * HOLD_SECONDS)) == []
    desk, _ = desk_with(1, 2, "ab")
    assert list(desk.tick(HOLD_SECONDS)) == []
    standing, released = desk.tick(2 * HOLD_SECONDS)
    assert isinstance(standing, ReportStanding)
    assert (standing.partition, standing.standing) == (0, Standing(1, ["a", "b"], False))
    assert isinstance(released, ReportReleased)
    assert (released.attempt.command.token, released.reason) == ("b", "no free slot")


def test_a_partition_that_was_refused_is_offered_the_slot_that_becomes_free() -> None:
    desk, attempts = desk_with(1, 2, "ab")
    desk.tick(2 * HOLD_SECONDS)
    assert list(desk.ended(attempts["a"], 3 * HOLD_SECONDS)) == [BeatSoon([0])]


def test_a_body_that_was_granted_may_run_and_what_waits_or_is_over_may_not() -> None:
    desk, attempts = desk_with(1, 1, "ab")
    grant = {token: GrantAttempt(task="t", attempt=1, token=token) for token in "abz"}
    assert list(desk.take(grant["a"], 0.0)) == [GrantBody(attempts["a"])]
    assert [list(desk.take(grant[token], 0.0)) for token in "bz"] == [[], []]
    desk.over(attempts["a"])
    assert list(desk.take(grant["a"], 0.0)) == []


def test_what_is_cancelled_while_it_waits_is_reported_once_and_never_begins() -> None:
    desk, attempts = desk_with(1, 1, "ab")
    cancel = CancelAttempt(task="t", attempt=1, token="b", reason="no")
    [cancelled] = desk.take(cancel, 0.0)
    assert isinstance(cancelled, ReportCancelled)
    assert cancelled.attempt.command.token == "b"
    assert [list(desk.take(again, 0.0)) for again in (cancel, command(token="b"))] == [[], []]
    assert list(desk.ended(attempts["a"], 1.0)) == []


def test_a_new_owner_of_a_partition_hears_of_the_worker_at_once() -> None:
    assert list(Slots(1, 2).take(EngineAnnounced(partition=1, partitions=2, epoch=3), 0.0)) == [BeatSoon((1,))]


def test_idle_credit_moves_to_the_partition_that_wants_work_unless_the_worker_drains() -> None:
    desk = Slots(8, 2)
    assert list(desk.take(WorkWanted(partition=1, waiting=9), 0.0)) == [BeatSoon((0, 1))]
    assert [desk.standing(partition).credit for partition in (0, 1)] == [2, 6]
    desk.drain()
    assert list(desk.take(WorkWanted(partition=0, waiting=9), 0.0)) == []


@pytest.mark.parametrize(("hung", "credit"), [(1, 1), (3, 1), (4, 0)])
def test_one_function_that_hangs_costs_one_slot_and_not_all_of_a_small_worker(hung: int, credit: int) -> None:
    desk, attempts = desk_with(4, 4, "abcd")
    for token in "abcd"[:hung]:
        desk.hung(attempts[token], 0.0)
    assert [desk.standing(partition).credit for partition in range(4)] == [credit] * 4
    assert desk.running == 4


def test_slots_that_are_all_held_only_for_a_moment_do_not_end_the_worker() -> None:
    """Held, free, and held again: the grace counts from the second time, and the worker gives up once."""
    desk, attempts = desk_with(1, 1, "ab")
    desk.hung(attempts["a"], 0.0)
    assert list(desk.tick(GRACE_SECONDS * 0.9)) == []
    [begin, _] = desk.came_back(GRACE_SECONDS * 0.9)
    assert isinstance(begin, BeginBody)
    desk.hung(begin.attempt, GRACE_SECONDS)
    assert list(desk.tick(GRACE_SECONDS * 1.9)) == []
    assert list(desk.tick(GRACE_SECONDS * 2.0)) == [GiveUp()]
    assert list(desk.tick(GRACE_SECONDS * 9.0)) == []


def test_a_worker_that_drains_hands_back_what_comes_and_stops_what_runs_at_last() -> None:
    desk, attempts = desk_with(1, 1, "ab")
    assert [(effect.attempt.command.token, effect.reason) for effect in desk.drain()] == [("b", "drain")]
    [released] = desk.take(command(token="c"), 1.0)
    assert isinstance(released, ReportReleased)
    assert list(desk.ended(attempts["a"], 1.0)) == []
    desk, attempts = desk_with(2, 1, "ab")
    desk.over(attempts["a"])
    assert [effect.attempt.command.token for effect in desk.stop()] == ["b"]


def test_a_lost_lease_stops_what_runs_and_drops_what_waits_of_its_partition_only() -> None:
    desk, _ = desk_with(2, 2, "a")
    desk.take(command(token="of another", partition=1), 0.0)
    desk.take(command(token="waits"), 0.0)
    desk.take(command(token="waits, too", partition=1), 0.0)
    assert [effect.attempt.command.token for effect in desk.lease_lost(0)] == ["a"]
    assert (desk.waiting, desk.running) == (1, 2)
    assert desk.standing(0).holding == ["a"]
    assert desk.standing(1).holding == ["of another", "waits, too"]


def full_of_others(partitions: int = 3, slots: int = 1) -> tuple[Slots, list[Attempt]]:
    """A desk whose every slot runs work of partition 0, and whose partition 1 was refused at time 0.2."""
    desk, attempts = desk_with(slots, partitions, "abcdefgh"[:slots])
    desk.take(command(token="refused", partition=1), 0.0)
    desk.tick(2 * HOLD_SECONDS)
    return desk, list(attempts.values())


def test_a_partition_that_was_refused_gets_no_more_credit_than_it_has_attempts_here() -> None:
    desk, _ = full_of_others(partitions=2, slots=4)
    assert [desk.standing(partition).credit for partition in (0, 1)] == [2, 0]


def test_an_attempt_is_handed_back_by_the_time_since_it_arrived() -> None:
    desk, _ = desk_with(1, 2, "a")
    desk.take(command(token="late"), 100.0)
    assert list(desk.tick(100.0 + HOLD_SECONDS / 2)) == []
    assert len(desk.tick(100.0 + HOLD_SECONDS * 2)) == 2


def test_without_a_free_slot_nothing_is_offered_or_reserved() -> None:
    desk, [attempt] = full_of_others()
    late = 2 * HOLD_SECONDS + STARVING_SECONDS
    assert list(desk.tick(late)) == []
    assert list(desk.ended(attempt, late)) == [BeatSoon([1])], "it is reserved when it becomes free"


def test_a_worker_that_drains_offers_nothing() -> None:
    desk, [attempt] = full_of_others()
    desk.drain()
    assert list(desk.ended(attempt, 1.0)) == []


def test_a_reserved_slot_is_kept_from_others_until_its_partition_comes_and_offered_to_nobody_else() -> None:
    desk, [attempt] = full_of_others()
    now = 2 * HOLD_SECONDS + STARVING_SECONDS
    desk.take(command(token="other", partition=2), now)  # waits: the only slot is taken
    assert list(desk.ended(attempt, now)) == [BeatSoon([1])]
    assert desk.waiting == 1
    [begin] = desk.take(command(token="came", partition=1), now)
    assert isinstance(begin, BeginBody)
    assert begin.attempt.command.token == "came"
    assert begun(desk.ended(begin.attempt, now)) == ["other"], "the reservation is used up"


def test_while_something_waits_for_a_reserved_slot_others_are_offered_none() -> None:
    desk, attempts = full_of_others(slots=2)
    now = 2 * HOLD_SECONDS + STARVING_SECONDS
    desk.take(command(token="too much", partition=2), now - 2 * HOLD_SECONDS)
    desk.tick(now - HOLD_SECONDS / 2)  # partition 2 is refused, too
    desk.take(command(token="waits", partition=0), now)
    assert list(desk.ended(attempts[0], now)) == [BeatSoon([1])]
    assert desk.waiting == 1


def test_one_free_slot_is_offered_to_one_partition_and_the_next_look_offers_more() -> None:
    desk, attempts = desk_with(1, 4, "a")
    for partition in (1, 2, 3):
        desk.take(command(token=f"of {partition}", partition=partition), 0.0)
    desk.tick(2 * HOLD_SECONDS)
    assert list(desk.ended(attempts["a"], 0.5)) == [BeatSoon([1])]
    assert list(desk.tick(0.5)) == [BeatSoon([2, 3])]


def test_hung_functions_lower_each_share_by_theirs() -> None:
    desk, attempts = desk_with(8, 2, "ab")
    for attempt in attempts.values():
        desk.hung(attempt, 0.0)
    assert [desk.standing(partition).credit for partition in (0, 1)] == [3, 3]
