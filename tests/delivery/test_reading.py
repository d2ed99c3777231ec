"""What a subscriber does not want is not decoded: the same records are selected, and the counters and offsets are the same."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery import DeliveryService, SubscriberConfig, feed, reading
from hub.delivery.config import plan
from hub.delivery.reading import AssignmentReader
from hub.delivery.selection import MALFORMED, Selection
from hub.delivery.window import Session
from hub.kafka import Cluster, Record, RecordPicker, build_batch
from hub.kafka.fetched import FetchedBatch, FetchedBatches, record_at
from hub.kafka.header_walk import HeaderWalk
from subscribers import F, Filter, Subscriber, SubscriberSettings, on
from tests import virtual_time
from tests.brokers import unique

from .event_log import committed_offset, completed, create_topic, progress, running, write
from .plugins import SEEN
from .waiting import until

TYPES = [b"task.failed", b"task.ready", b"task.progressed", b"task.invented", b"\xff", b"", None]
ATTRIBUTES = ["type", "namespace", "taskname", "severitynumber"]
VALUES = [b"default", b"prod", b"charge", b"17", b"", b"\xff", b"x" * 300, b"task.failed", None]


class Ends(Subscriber[SubscriberSettings]):
    """Takes types by name and by pattern."""

    @on("task.failed", "task.inv*")
    async def one(self, event: Any) -> None: ...


class Everything(Subscriber[SubscriberSettings]):
    """Takes all types."""

    @on("*")
    async def one(self, event: Any) -> None: ...


def attribute_filter(operator: Any) -> st.SearchStrategy[Filter]:
    one = st.sampled_from(ATTRIBUTES)
    value = st.sampled_from(["task.failed", "task.", "failed", "prod", "default", "d", "17"])
    return st.dictionaries(one, value, min_size=1, max_size=2).map(lambda attributes: operator(**attributes))


filters = st.recursive(
    st.one_of(*(attribute_filter(operator) for operator in (F.exact, F.prefix, F.suffix))),
    lambda inner: inner.map(F.not_) | st.lists(inner, min_size=1, max_size=2).map(lambda several: F.all(*several))
    | st.lists(inner, min_size=1, max_size=2).map(lambda several: F.any(*several)),
    max_leaves=4,
)  # fmt: skip
headers = st.lists(
    st.tuples(st.just("ce_type"), st.sampled_from(TYPES))
    | st.tuples(st.sampled_from(["ce_namespace", "ce_taskname", "ce_severitynumber", "ce_type2"]), st.sampled_from(VALUES))
    | st.tuples(st.just("note"), st.sampled_from([b"ce_type", b"\x0ece_type\x16task.failed"])),
    max_size=7,
)  # fmt: skip


def found_in(several: list[list[tuple[str, bytes | None]]], rule: Selection) -> list[tuple[int, Any]]:
    """Offset and route of the encoded records with these headers that the rule wants."""
    batch = FetchedBatches(build_batch([Record(b"k", b"v", each, 0) for each in several])).next_batch()
    assert isinstance(batch, FetchedBatch)
    view = batch.view()
    _, found = HeaderWalk(rule).find(view, 0)
    return [((record or record_at(view, at)).offset, route) for record, route, _, at in found]


def selected(plugin: type[Subscriber[Any]], only: Filter | None) -> Selection:
    return Selection(plugin, SubscriberSettings(), only)


@given(st.lists(headers, min_size=1, max_size=12), st.sampled_from([Ends, Everything]), st.none() | filters)
def test_encoded_records_are_selected_as_decoded_ones(
    several: list[list[tuple[str, bytes | None]]], plugin: type[Subscriber[Any]], only: Filter | None
) -> None:
    rule = selected(plugin, only)
    expected = [(offset, selected(plugin, only).route(tuple(each))) for offset, each in enumerate(several)]
    assert found_in(several, rule) == [(offset, route) for offset, route in expected if route is not None]
    assert rule.narrows == (only is not None)


def test_a_type_that_occurs_twice_is_filtered_as_before() -> None:
    twice: list[tuple[str, bytes | None]] = [("ce_type", b"task.failed"), ("ce_type", b"task.ready")]
    rule = selected(Everything, F.exact(type="task.ready"))
    found = found_in([twice, twice[::-1], twice[1:], twice[:1], []], rule)
    assert [offset for offset, _ in found] == [0, 2, 4]
    assert [route is MALFORMED for _, route in found] == [False, False, True]


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """A topic of its own with one partition."""
    name = unique("events")
    await create_topic(bootstrap, name)
    return name


@pytest.mark.parametrize("every", [2, 400])
async def test_few_or_many_wanted_events_are_delivered_and_the_others_are_counted(bootstrap: str, topic: str, every: int) -> None:
    config = SubscriberConfig(
        use="tests.delivery.plugins:Recorder",
        id=unique("few"),
        settings={"tag": (tag := unique("few"))},
        start_from="earliest",
        filter={"exact": {"type": "task.completed"}},
        delivery={"in_flight_max": 3},
    )
    for part in range(4):
        numbers = range(part * 400, part * 400 + 400)
        await write(bootstrap, topic, [(completed if n % every == 7 % every else progress)(f"t{n}", 1) for n in numbers])
    wanted = [f"t{n}" for n in range(1600) if n % every == 7 % every]
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await until(lambda: service.status()[0].filtered + service.status()[0].delivered == 1600, "all events")
        assert service.status()[0].delivered == len(wanted)
        assert sorted(task for task, _ in SEEN[tag].events) == sorted(wanted)
    assert await committed_offset(bootstrap, config.group, topic) in (1603, 1604), "1600 events, 3 markers and perhaps the last"


async def test_events_are_committed_soon_after_the_assignment_because_a_process_may_end_within_a_second(
    embedded_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "COMMIT_SECONDS", 60.0)
    name, tag = unique("events"), unique("soon")
    await create_topic(embedded_bootstrap, name)
    use = "tests.delivery.plugins:Recorder"
    config = SubscriberConfig(use=use, id=tag, settings={"tag": tag}, start_from="earliest")
    await write(embedded_bootstrap, name, [progress("t1", number) for number in range(1, 11)])
    async with running(DeliveryService(Cluster.of(embedded_bootstrap), [config], topic=name)) as service:
        await until(lambda: service.status()[0].delivered == 10, "all events")
        async with asyncio.timeout(30):
            while (await committed_offset(embedded_bootstrap, config.group, name) or 0) < 10:
                await asyncio.sleep(0.05)


def test_reading_pauses_until_a_quarter_of_the_events_in_flight_is_acknowledged() -> None:
    session = Session(100, 1_000, wake=lambda: None)
    session.fed = 76
    assert (session.room(), session.in_flight) == (0, 76)
    session.finished = 1
    assert session.room() == 25
    session.fed_bytes = 1_000
    assert session.room() == 0
    one = Session(1, 1_000, wake=lambda: None)
    assert one.room() == 1


def test_a_plan_selects_by_the_filter_of_the_plugin_and_by_the_configured_one() -> None:
    class Both(Everything):
        filter = F.exact(namespace="prod")

    checked = plan(SubscriberConfig(use="x:Both", filter={"exact": {"taskname": "charge"}}), Both)
    rule = Selection(checked.plugin, checked.settings, checked.filter)
    batch = build_batch(
        [
            Record(None, b"v", [("ce_type", b"task.ready"), ("ce_namespace", space), ("ce_taskname", name)], 0)
            for space in (b"prod", b"dev")
            for name in (b"charge", b"other", None)
        ]
    )
    count, found = RecordPicker(rule).pick(FetchedBatches(batch).next_batch(), 0)
    assert (count, [record.offset for record, *_ in found]) == (6, [0])


class Answers:
    """In place of a fetcher: answers each request after the next of these `delays`. `requested_at`: the times of the requests."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = iter(delays)
        self.requested_at: list[float] = []

    take = None

    async def wait(self, seconds: float) -> bool:
        self.requested_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(next(self._delays))
        return True

    async def close(self) -> None: ...


def reader_of(answers: Answers) -> AssignmentReader:
    reader = AssignmentReader(Cluster.of("127.0.0.1:1"), "t", Selection(Everything, SubscriberSettings(), None))
    reader._fetcher = answers  # type: ignore[assignment]
    return reader


def test_events_that_follow_each_other_quickly_are_requested_together_and_the_next_after_a_silence_at_once() -> None:
    async def read() -> list[float]:
        answers = Answers([0.0, 0.001, 0.0, 1.0, 0.0])
        reader = reader_of(answers)
        for _ in range(5):
            await reader.wait()
        return answers.requested_at

    pace = reading.PACE_SECONDS
    expected = [0.0, pace, 2 * pace + 0.001, 3 * pace + 0.001, 4 * pace + 1.001]
    assert virtual_time.run(read()) == pytest.approx(expected)


def test_a_reader_that_is_closed_requests_no_more() -> None:
    async def read() -> int:
        answers = Answers([0.0, 0.0])
        reader = reader_of(answers)
        await reader.wait()
        waiting = asyncio.create_task(reader.wait())
        await asyncio.sleep(0)
        await reader.close()
        await waiting
        return len(answers.requested_at)

    assert virtual_time.run(read()) == 1
