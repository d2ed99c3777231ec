"""The small values of the core: graphs, retry delays, ready order, agenda, times, derived ids."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.graph import Plan, check_plan, dependency_of
from hub.core.rejection import Rejection
from hub.core.rows import DefinitionRow
from hub.core.state.agenda import Agenda
from hub.core.state.definitions import Definitions, order_of
from hub.core.state.partition import TIDY_FROM, PartitionState
from hub.core.state.ready import AGING_SECONDS, ReadyQueue
from hub.core.tasks.retry import delay_seconds
from hub.core.times import text_of, us_of
from schemas import (
    Backoff,
    Definition,
    Dependency,
    RetryPolicy,
    StepSpec,
    derived_id,
    step_id,
    task_id_of_cloudevent,
    task_id_of_key,
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, StepSpec]:
    """Random graphs, cycles included."""
    keys = [f"n{i}" for i in range(draw(st.integers(1, 8)))]
    edges = st.lists(st.sampled_from(keys), unique=True, max_size=4)
    return {key: StepSpec(name="a", depends_on=list[str | Dependency](draw(edges))) for key in keys}


@given(graphs())
def test_a_plan_puts_every_step_after_what_it_depends_on_or_names_a_circle(steps: dict[str, StepSpec]) -> None:
    plan = check_plan(steps)
    if isinstance(plan, Plan):
        place = {key: index for index, key in enumerate(plan.order)}
        assert set(place) == set(steps)
        for key, step in steps.items():
            assert all(place[dependency_of(entry).task] < place[key] for entry in step.depends_on)
    else:
        assert plan.code == "cycle"
        circle = plan.reason.rpartition(": ")[2].split(" -> ")
        if len(circle) > 1:
            for dependent, dependency in zip(circle, circle[1:], strict=False):
                assert dependency in [dependency_of(entry).task for entry in steps[dependent].depends_on]


def test_too_many_dependents_of_one_step_are_refused() -> None:
    steps = {"hub": StepSpec(name="a")} | {f"n{i}": StepSpec(name="a", depends_on=["hub"]) for i in range(9_999)}
    assert isinstance(check_plan(steps), Plan)
    refused = check_plan(steps | {"one-more": StepSpec(name="a", depends_on=["hub"])})
    assert isinstance(refused, Rejection)
    assert refused.code == "limit_exceeded"


def test_delays_grow_up_to_the_maximum_and_a_list_repeats_its_last() -> None:
    policy = RetryPolicy(backoff=Backoff(initial=1, multiplier=3, max=20), jitter=0)
    assert [delay_seconds(policy, n, task="t", attempt=n) for n in range(1, 6)] == [1, 3, 9, 20, 20]
    assert delay_seconds(policy, 10_000, task="t", attempt=1) == 20
    listed = RetryPolicy(backoff=[1, 5], jitter=0)
    assert [delay_seconds(listed, n, task="t", attempt=n) for n in range(1, 4)] == [1, 5, 5]
    assert delay_seconds(RetryPolicy(backoff=[]), 1, task="t", attempt=1) == 0


@given(st.text(min_size=1), st.integers(1, 50), st.floats(0, 1))
def test_jitter_stays_in_its_share_and_a_replay_gives_the_same_delay(task: str, attempt: int, jitter: float) -> None:
    policy = RetryPolicy(backoff=[10], jitter=jitter)
    delay = delay_seconds(policy, 1, task=task, attempt=attempt)
    assert 10 * (1 - jitter) - 1e-9 <= delay <= 10 * (1 + jitter) + 1e-9
    assert delay == delay_seconds(policy, 1, task=task, attempt=attempt)


BUCKET = ("q", "default", "n", "1")


def taken_from(queue: ReadyQueue) -> list[str]:
    """Take all tasks of the bucket; returns their ids in this order."""
    order, head = [], queue.head(BUCKET)
    while head is not None:
        order.append(head[2])
        head = queue.take(BUCKET)
    return order


def test_priority_goes_first_until_age_outweighs_it() -> None:
    queue = ReadyQueue()
    queue.push("old", BUCKET, 0, 0)
    queue.push("urgent", BUCKET, 1, (AGING_SECONDS - 1) * 1_000_000)
    queue.push("too late", BUCKET, 1, (AGING_SECONDS + 1) * 1_000_000)
    assert taken_from(queue) == ["urgent", "old", "too late"]
    assert len(queue) == 0


def test_a_task_that_is_ready_no_more_is_passed_over() -> None:
    queue = ReadyQueue()
    for name in ("x", "y"):
        queue.push(name, BUCKET, 0, 0)
    queue.remove("x")
    head = queue.head(BUCKET)
    assert head is not None
    assert head[2] == "y"
    queue.remove("y")
    assert queue.heads() == []
    assert queue.buckets == {}


def test_the_ready_order_is_rebuilt_only_if_entries_of_other_tasks_outnumber_those_that_wait() -> None:
    state = PartitionState(ended_entries_max=1)
    for number in range(TIDY_FROM + 3):
        state.ready.push(f"t{number}", BUCKET, 0, 0)
    heap = state.ready.buckets[BUCKET]
    state.tidy()
    assert state.ready.buckets[BUCKET] is heap
    for number in range(1, TIDY_FROM + 3):
        state.ready.remove(f"t{number}")
    state.tidy()
    assert state.ready.entries == len(state.ready) == 1


def test_the_ready_order_is_the_same_after_it_was_rebuilt() -> None:
    queue, order = ReadyQueue(), ["0", "5", "1", "6", "7", "2", "3"]
    for name in order:
        queue.push(name, BUCKET, 0, int(name))
    for name in ("0", "1"):
        queue.remove(name)
    queue.rebuild()
    assert taken_from(queue) == ["2", "3", "5", "6", "7"]


def test_entries_of_the_agenda_that_are_wanted_are_not_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state, sweeps = PartitionState(ended_entries_max=1), []
    monkeypatch.setattr(Agenda, "keep", lambda agenda, wanted: sweeps.append(len(agenda)))
    for number in range(2 * TIDY_FROM):
        state.agenda.add(number, "dispatch", "")
        state.tidy()
    assert sweeps == [TIDY_FROM + 1]


def test_the_agenda_gives_what_is_due_in_order_and_nothing_early() -> None:
    agenda = Agenda()
    for due in (30, 10, 20, 10):
        agenda.add(due, "retry", f"t{due}", len(agenda))
    assert agenda.next_due() == 10
    taken = []
    while (entry := agenda.pop_due(20, None)) is not None:
        taken.append((entry[0], entry[3]))
    assert taken == [(10, 1), (10, 3), (20, 2)]
    assert len(agenda) == 1


def test_a_timeout_waits_until_everybody_was_heard_and_holds_up_nothing_else() -> None:
    agenda = Agenda()
    agenda.add(10, "total", "t")
    agenda.add(15, "retry", "r")
    assert agenda.pop_due(20, None) == (15, "retry", "r", 0)
    assert agenda.pop_due(20, 9) is None
    assert agenda.next_due() == 10
    assert agenda.pop_due(20, 10) == (10, "total", "t", 0)


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_survive_the_way_through_text(time_us: int) -> None:
    assert us_of(text_of(time_us)) == time_us


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z"])
def test_text_that_is_no_time_or_names_no_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        us_of(text)


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_derived_ids_are_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (derived_id("p", *left) == derived_id("p", *right)) == (left == right)
    assert derived_id("p", *left) != derived_id("q", *left)


def test_derived_ids_are_what_they_were_in_earlier_releases() -> None:
    assert step_id("root", "x") == "65707bb2-12b5-8ae8-af67-238d54b65eeb"
    assert task_id_of_cloudevent("/shop", "1") == "820a1489-2664-8cd6-915b-8b7a0f7c5807"
    assert task_id_of_key("default", "k") == "8d0492e4-cf01-8795-a4b7-37d64743017a"


def test_definitions_are_listed_by_name_namespace_and_version() -> None:
    names = [("a", None, "2"), ("a", None, "10"), ("a", "blue", "1"), ("a", "shop", "1"), ("b", None, "1")]
    known = Definitions()
    for name, namespace, version in reversed(names):
        known.put(DefinitionRow(definition=Definition(name=name, namespace=namespace, version=version)))
    listed = [one.definition for one in known.in_order()]
    assert [(one.name, one.namespace, one.version) for one in listed] == names


@pytest.mark.parametrize(
    "versions",
    [
        ["1", "2", "10"],
        ["1.9", "1.10", "2"],
        ["2.0-rc1", "2.0-rc2", "2.0", "2.0.1"],
        ["beta", "1"],
        ["1", "2026.01.31", "2026.2.1"],
    ],
)
def test_versions_are_ordered_as_people_read_them(versions: list[str]) -> None:
    assert all(sorted(order, key=order_of) == versions for order in permutations(versions))
