"""What a subscriber gets, how often and in which order: sample, age, replays, rates, priority, rules for event types."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.delivery import SubscriberConfig
from hub.delivery.config import plan
from hub.errors import ConfigurationError
from hub.testing import HubInMemory, RecordingSubscriber, SubscriberHarness
from schemas import Event
from subscribers import Batch, Delivery, Meta, on, subscriber
from subscribers.api.rates import Rate
from tests.testing.app import tasks
from tests.virtual_time import run

from .virtual_delivery import Delivering, Destination, of_task

FEW = settings(max_examples=25, deadline=None)
TASKS = "abcdefgh"
ROOTS = [f"019a0000-0000-7000-8000-{number:012d}" for number in range(200)]


def planned(**entry: Any) -> Any:
    return plan(SubscriberConfig(use="x:Y", id="s", **entry), Destination)


# Sample


@settings(max_examples=8, deadline=None)
@given(share=st.sampled_from([0.0, 0.05, 0.3]), larger=st.floats(0.4, 1))
def test_a_sample_keeps_a_workflow_whole_and_every_failure(share: float, larger: float) -> None:
    async def kept(share: float) -> tuple[set[str], Counter[str], int]:
        sampled = Delivering(delivery={"sample": share})
        for root in ROOTS:
            sampled.feed("a1", "b1", "c1!", root=root)
            sampled.feed("a2", type="attempt.failed", root=root)
        await sampled.advance(1)
        assert sampled.unfinished == 0
        metas = sampled.destination.metas
        assert len(metas) + sampled.counters.sampled == len(sampled.items)
        failures = Counter(meta.type for meta in metas if meta.type.endswith(".failed"))
        per_root = Counter(str(meta.rootid) for meta in metas if not meta.type.endswith(".failed"))
        assert set(per_root.values()) <= {2}
        await sampled.close()
        return set(per_root), failures, len(metas)

    few, failures, _ = run(kept(share))
    many, _, _ = run(kept(larger))
    assert failures == {"task.failed": len(ROOTS), "attempt.failed": len(ROOTS)}
    assert few <= many, "a larger share contains the smaller one"
    assert abs(len(few) / len(ROOTS) - share) < 0.2


def test_a_sample_is_the_same_for_every_subscriber_and_start() -> None:
    async def main() -> list[str]:
        one, other = Delivering(delivery={"sample": 0.3}), Delivering(types={"task.*": {"sample": 0.3}})
        for each in (one, other):
            for root in ROOTS:
                each.feed("a1", root=root)
        await one.advance(1)
        roots = [[str(meta.rootid) for meta in each.destination.metas] for each in (one, other)]
        assert roots[0] == roots[1]
        await one.close()
        await other.close()
        return roots[0]

    kept = run(main())
    assert kept == run(main())
    assert 35 < len(kept) < 85


# Age and replays


def test_an_event_that_is_too_old_is_acknowledged_without_the_handler() -> None:
    async def main() -> None:
        paged = Delivering(delivery={"max_event_age": "1h"}, types={"task.ready": {"max_event_age": "1m"}})
        paged.feed("a1", age_seconds=3601)
        paged.feed("a2", "b1", age_seconds=3599)
        paged.feed("c1", type="task.ready", age_seconds=61)
        await paged.advance(0.1)
        assert paged.accepted == ["a2", "b1"]
        assert (paged.counters.too_old, paged.counters.delivered, paged.unfinished) == (2, 2, 0)
        await paged.close()

    run(main())


def test_an_event_becomes_too_old_while_it_waits_and_costs_no_call_then() -> None:
    async def main() -> None:
        paged = Delivering(delivery={"max_event_age": "10s", "rate": "1/m"})
        paged.feed("a1", "b1", "c1")
        await paged.advance(61)
        assert (paged.accepted, paged.counters.too_old) == (["a1"], 2)
        paged.feed("d1")
        await paged.advance(0.1)
        assert paged.accepted == ["a1", "d1"], "the calls of b1 and c1 were not made, and do not count"
        await paged.close()

    run(main())


def test_a_call_of_a_type_that_was_not_made_does_not_delay_the_next() -> None:
    async def main() -> None:
        paged = Delivering(types={"task.progressed": {"rate": "1/m", "max_event_age": "90s"}})
        paged.feed("a1")
        await paged.advance(0.1)
        paged.feed("b1", age_seconds=60)
        paged.feed("c1", age_seconds=1)
        await paged.advance(60)
        assert (paged.accepted, paged.counters.too_old) == (["a1", "c1"], 1)
        await paged.close()

    run(main())


async def test_the_age_follows_the_time_of_a_hub_in_memory() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.run("add", {"a": 1, "b": 2})
        await hub.advance(minutes=10)
        done = await hub.run("add", {"a": 1, "b": 2})
        assert done == 3
        recorded = await hub.attach(RecordingSubscriber, start_from="earliest", delivery={"max_event_age": "5m"})
        await hub.settle()
        assert recorded.counters.too_old > 0
        assert recorded.instance.types.count("task.completed") == 1  # type: ignore[attr-defined]
        assert recorded.counters.too_old + recorded.counters.delivered == len(hub.events)


@pytest.mark.parametrize("policy", ["deliver", "skip"])
def test_the_events_of_a_replay_are_marked_or_skipped(policy: str) -> None:
    async def main() -> None:
        replayed = Delivering(replay=True, delivery={"replay": policy})
        live = Delivering(delivery={"replay": policy})
        replayed.feed("a1", "a2")
        live.feed("a1", "a2")
        await live.advance(1)
        expected = 2 if policy == "deliver" else 0
        assert [meta.replay for meta in replayed.destination.metas] == [True] * expected
        assert (replayed.counters.replays_skipped, replayed.unfinished) == (2 - expected, 0)
        assert [meta.replay for meta in live.destination.metas] == [False, False]
        await live.close()
        await replayed.close()

    run(main())


# Rates


def assert_within(called_at: list[float], rate: Rate) -> None:
    """In no interval of `rate.seconds` are there more than `rate.calls` calls."""
    pairs = zip(called_at, called_at[rate.calls :], strict=False)
    assert all(later - earlier >= rate.seconds - 1e-5 for earlier, later in pairs), called_at


@FEW
@given(
    text=st.sampled_from(["1/s", "5/s", "100/m", "150/m", "30/h"]),
    bursts=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 12)), min_size=1, max_size=6),
    concurrency=st.integers(1, 4),
    seconds=st.sampled_from([0, 0.3, 3]),
    fails=st.integers(0, 3),
)
def test_a_rate_is_not_exceeded_in_any_interval_and_nothing_is_lost(
    text: str, bursts: list[tuple[float, int]], concurrency: int, seconds: float, fails: int
) -> None:
    async def main() -> None:
        limited = Delivering(delivery={"rate": text, "concurrency": concurrency})
        failing = fails

        async def script(metas: list[Meta]) -> None:
            nonlocal failing
            await asyncio.sleep(seconds)
            if failing:
                failing -= 1
                raise ConnectionError("once")

        limited.destination.script = script
        number = 0
        for pause, count in bursts:
            limited.feed(*(f"{TASKS[(number + n) % 8]}{(number + n) // 8 + 1}" for n in range(count)))
            number += count
            await limited.advance(pause)
        await limited.advance(24 * 3600)
        rate = limited.plan.delivery.calls_max
        assert rate is not None
        assert_within(limited.called_at, rate)
        assert limited.unfinished == 0
        assert len(limited.accepted) == number
        assert limited.counters.rate_limited == 0
        for task in TASKS:
            assert of_task(limited.accepted, task) == sorted(of_task(limited.accepted, task))
        await limited.close()

    run(main())


def test_a_rate_is_used_to_the_full() -> None:
    async def main() -> None:
        limited = Delivering(delivery={"rate": "5/s", "concurrency": 3})
        limited.feed(*(f"{task}{n}" for n in range(1, 6) for task in TASKS))
        await limited.advance(3.5)
        assert Counter(round(when, 3) for when in limited.called_at) == {0: 5, 1: 5, 2: 5, 3: 5}
        assert limited.counters.rate_limited == 8
        await limited.advance(10)
        assert limited.called_at[-1] == pytest.approx(7, abs=0.001)
        assert limited.counters.rate_limited == 0
        await limited.close()

    run(main())


def test_the_rate_of_a_type_delays_only_this_type_and_counts_for_the_subscriber() -> None:
    async def main() -> None:
        limited = Delivering(delivery={"rate": "10/s"}, types={"task.progressed": {"rate": "1/s"}})
        limited.feed(*(f"a{n}" for n in range(1, 4)))
        limited.feed(*(f"b{n}" for n in range(1, 4)))
        limited.feed(*(f"c{n}" for n in range(1, 31)), type="task.ready")
        await limited.advance(2.5)
        seen = {task: [when for when, names in limited.calls if names[0][0] == task] for task in "abc"}
        assert [names[0] for _, names in limited.calls if names[0][0] in "ab"] == ["a1", "b1", "a2"], "one after the other"
        assert_within(sorted(seen["a"] + seen["b"]), Rate(1, 1.0))
        assert_within(limited.called_at, Rate(10, 1.0))
        assert len(seen["a"] + seen["b"]) == 3
        assert len(seen["c"]) == 27
        assert limited.counters.rate_limited == 3, "a, b and c"
        await limited.advance(10)
        assert limited.unfinished == 0
        await limited.close()

    run(main())


# Priority


def test_events_with_priority_are_first_when_several_tasks_wait() -> None:
    async def main() -> None:
        paged = Delivering(delivery={"priority": ["task.fail*"], "rate": "1/s"})
        paged.feed("a1", "b1", "c1", "d1")
        await paged.advance(1.5)
        paged.feed("e1!", "d2!")
        await paged.advance(10)
        assert paged.accepted == ["a1", "b1", "e1", "d1", "d2", "c1"], "d1 has the priority of d2, which follows it"
        await paged.close()

    run(main())


def test_priority_of_a_type_overrides_that_of_the_subscriber() -> None:
    async def main() -> None:
        types = {"task.progressed": {"priority": False}, "worker.*": {"priority": True}}
        paged = Delivering(delivery={"priority": ["task.*"], "rate": "1/s"}, types=types)
        paged.feed("a1")
        await paged.advance(0.5)
        paged.feed("b1")
        paged.feed("c1!")
        paged.feed("d1", type="worker.lost")
        await paged.advance(10)
        assert paged.accepted == ["a1", "c1", "d1", "b1"]
        await paged.close()

    run(main())


@FEW
@given(
    events=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.sampled_from([0, 0.1, 1])), min_size=1, max_size=40),
    order=st.sampled_from(["task", "root", "partition"]),
    concurrency=st.integers(1, 3),
    failing=st.sets(st.integers(0, 39), max_size=5),
)
def test_order_per_task_holds_with_priority_and_retries(
    events: list[tuple[str, bool, float]], order: str, concurrency: int, failing: set[int]
) -> None:
    async def main() -> None:
        delivery = {"priority": ["task.failed"], "order": order, "concurrency": concurrency, "retry": {"initial": 0.5}}
        paged = Delivering(delivery=delivery)
        tried: set[int] = set()

        async def script(metas: list[Meta]) -> None:
            (meta,) = metas
            await asyncio.sleep(0.2)
            if meta.offset in failing and meta.offset not in tried:
                tried.add(meta.offset)
                raise ConnectionError("once")

        paged.destination.script = script
        numbers: Counter[str] = Counter()
        for task, fails, pause in events:
            numbers[task] += 1
            paged.feed(f"{task}{numbers[task]}{'!' if fails else ''}")
            await paged.advance(pause)
        await paged.advance(600)
        assert paged.unfinished == 0
        for task in "abcd":
            assert of_task(paged.accepted, task) == list(range(1, numbers[task] + 1))
        await paged.close()

    run(main())


# Rules for event types


def test_the_most_specific_pattern_that_has_a_field_applies() -> None:
    async def main() -> None:
        types = {"*": {"timeout": "4s"}, "task.*": {"timeout": "3s", "sample": 0}, "task.progressed": {"sample": 1}}
        timed = Delivering(types=types, delivery={"on_error": "skip", "retry": {"timeout": 0}, "concurrency": 3})

        async def script(metas: list[Meta]) -> None:
            await asyncio.sleep(3.5)

        timed.destination.script = script
        timed.feed("a1")
        timed.feed("b1", type="task.ready")
        timed.feed("c1", type="worker.lost")
        await timed.advance(3.2)
        assert timed.counters.timed_out == 1
        await timed.advance(1)
        assert (timed.accepted, timed.counters.timed_out, timed.counters.sampled) == (["c1"], 1, 1)
        await timed.close()

    run(main())


def test_a_shorter_timeout_after_a_longer_one_is_in_time() -> None:
    async def main() -> None:
        delivery = {"timeout": "1h", "on_error": "skip", "retry": {"timeout": 0}}
        timed = Delivering(types={"task.failed": {"timeout": "1s"}}, delivery=delivery)

        async def script(metas: list[Meta]) -> None:
            await asyncio.sleep(0 if metas[0].type == "task.progressed" else 60)

        timed.destination.script = script
        timed.feed("a1", "a2!", "a3")
        await timed.advance(1.1)
        assert (timed.accepted, timed.counters.timed_out) == (["a1", "a3"], 1)
        await timed.close()

    run(main())


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"types": {"task.progresed": {"sample": 1}}}, r'types\."task\.progresed": \'task\.progresed\' matches no event type'),
        ({"types": {"taks.*": {"sample": 1}}}, r'types\."taks\.\*": .* matches no event type'),
        (
            {"types": {"task.*": {"colour": 1}}},
            r'types\."task\.\*"\.colour: unknown key \(known keys: .*rate, sample, timeout\)$',
        ),
        ({"types": {"task.*": {"order": "root"}}}, r'types\."task\.\*"\.order: unknown key'),
        ({"types": {"task.*": {"sample": 2}}}, r'types\."task\.\*"\.sample: must be at most 1'),
        ({"types": {"task.*": {"rate": "often"}}}, r"types\.\"task\.\*\"\.rate: 'often' is not a rate"),
        ({"types": {"task.*": {"timeout": "x"}}}, r"types\.\"task\.\*\"\.timeout: 'x' is not a duration"),
        ({"types": {"task.*": {"priority": "high"}}}, r'types\."task\.\*"\.priority: must be true or false'),
        ({"types": {"task.*": {"sample": 1}, "*.ready": {"rate": "1/s"}, "*.read*": {"rate": "2/s"}}}, "equally well"),
        ({"delivery": {"priority": ["task.faild"]}}, r"delivery\.priority: 'task\.faild' matches no event type"),
        ({"delivery": {"priority": "task.*"}}, r"delivery\.priority: must be a list"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_path(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^subscribers\[s\]\.{says}" if not says.startswith("equal") else says):
        planned(**entry)


def test_patterns_that_do_not_meet_and_fields_that_differ_are_no_conflict() -> None:
    rules = planned(types={"task.*": {"sample": 1}, "*.lost": {"rate": "1/s"}, "work*": {"timeout": 1}}).types
    assert [one.pattern for one in rules] == ["task.*", "*.lost", "work*"]


def test_a_plan_without_policies_treats_all_events_alike() -> None:
    from hub.delivery.policies import policies_of

    assert policies_of(planned()) is None
    assert Delivery() == planned().delivery


async def test_a_subscriber_gets_no_events_about_itself_but_those_about_others() -> None:
    seen: list[str] = []

    @subscriber("*", name="watch")
    async def watch(event: Event) -> None:
        seen.append(f"{event.type} {event.subject}")

    async with SubscriberHarness(watch) as harness:
        await harness.feed("subscriber.failing", envelope={"subject": "watch"})
        await harness.feed("subscriber.failing", envelope={"subject": "pager"})
        await harness.feed("task.created", envelope={"subject": "watch"})
        assert seen == ["subscriber.failing pager", "task.created watch"]
        assert harness.subscription.counters.dropped == 1


class TwoBatches(Destination):
    """Two batch handlers, whose batches have types of the same two rates."""

    @on("task.created", "task.failed", batch=Batch(max=2, linger=0.05))
    async def first(self, events: list[Event], metas: list[Meta]) -> None:
        await self.take(metas)

    @on("attempt.failed", "task.completed", batch=Batch(max=2, linger=0.05))
    async def second(self, events: list[Event], metas: list[Meta]) -> None:
        await self.take(metas)


def test_lanes_that_wait_for_two_rates_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        types = {"task.c*": {"rate": "1/s"}, "*.failed": {"rate": "1/s"}}
        one = Delivering(TwoBatches, delivery={"concurrency": 2}, types=types)
        for number in range(1, 20):
            one.feed(f"a{number}", type="task.created")
            one.feed(f"b{number}", type="attempt.failed")
            one.feed(f"c{number}", type="task.failed")
            one.feed(f"d{number}", type="task.completed")
        await one.advance(600)
        assert one.unfinished == 0
        await one.close()

    run(main())
