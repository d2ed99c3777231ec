"""Arbitrary records on the topic of events: valid events are delivered once, others are dead-lettered, and nothing stops."""

import asyncio
import logging
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery import Counters, DeliveryService, SubscriberConfig
from hub.delivery.config import SubscriberPlan, plan
from hub.delivery.dead_letters import CUT_BYTES, HEADERS_MAX, DeadLetter
from hub.delivery.runner import Runner
from hub.delivery.selection import Selection
from hub.delivery.window import Item, Session
from hub.kafka import Cluster, make_producer
from schemas import MalformedEvent, decode_event
from subscribers import Meta
from subscribers.console import json_line, text_line
from tests.brokers import unique
from tests.records import FEW, PATIENT, Damage, Example, WholeRecord, binary, hostile_records
from tests.schemas.test_envelope import ATTRIBUTES, EXAMPLES, event_example

from .event_log import committed_offset, create_topic, progress, read_all, running
from .plugins import SEEN, Batches, Progress, Recorder
from .waiting import until

OTHERS = {kind: EXAMPLES[kind] for kind in ("task.ready", "task.completed", "worker.registered", "task.progressed")}
FILTER = {"all": [{"prefix": {"type": "task."}}, {"not": {"exact": {"namespace": "sandbox"}}}]}


class Letters:
    """Dead letters in memory."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    async def put(self, plan: SubscriberPlan, item: Item) -> None:
        self.offsets.append(item.offset)


class Delivered:
    """One subscriber, run on records without a broker."""

    def __init__(self, plugin: Any, on_error: str) -> None:
        self.tag = unique("hostile")
        delivery = {"on_error": on_error, "concurrency": 2}
        config = SubscriberConfig(use="x:Y", id=self.tag, settings={"tag": self.tag}, delivery=delivery, filter=FILTER)
        self.plan = plan(config, plugin)
        self.selection = Selection(self.plan.plugin, self.plan.settings, self.plan.filter)
        self.counters, self.letters, self.fatal = Counters(), Letters(), list[Exception]()
        self.routed: list[Item] = []
        self.seen = SEEN[self.tag]

    async def run(self, records: list[WholeRecord]) -> "Delivered":
        instance = self.plan.plugin(self.plan.settings)
        runner = Runner(self.plan, instance, self.letters, self.counters, self.fatal.append, logging.getLogger("test"))
        runner.start()
        session = Session(1_000_000, 1 << 40, wake=lambda: None)
        for offset, record in enumerate(records):
            route = self.selection.route(tuple(record.headers))
            if route is not None:
                self.routed.append(Item(session, route, as_fetched(record, offset)))
        runner.feed(self.routed)
        await until(lambda: all(item.done for item in self.routed) or self.fatal, "every record dealt with")
        await runner.close(1.0)
        return self


def as_fetched(record: WholeRecord, offset: int) -> Any:
    return SimpleNamespace(
        partition=0, offset=offset, key=record.key, value=record.value, headers=tuple(record.headers), timestamp=1_700_000_000_000
    )


def good(subject: str) -> WholeRecord:
    example = event_example("task.progressed")
    headers = {**ATTRIBUTES, "ce_subject": subject.encode()}
    return binary("task.progressed", Example({**example.payload, "data": {"attempt": 1, "percent": 7.0}}, headers, b"t"))


@pytest.mark.parametrize("on_error", ["dlq", "skip", "stop"])
@pytest.mark.parametrize("plugin", [Recorder, Progress, Batches])
@FEW
@given(records=st.lists(hostile_records(OTHERS), min_size=1, max_size=15))
def test_every_record_is_delivered_once_or_set_aside_and_the_next_event_arrives(
    plugin: Any, on_error: str, records: list[WholeRecord]
) -> None:
    done = asyncio.run(Delivered(plugin, on_error).run([*records, good("after")]))
    counters = done.counters
    assert done.fatal == []
    assert "after" in [subject for subject, _ in done.seen.events]
    assert counters.delivered + counters.malformed == len(done.routed)
    assert len(done.seen.events) == counters.delivered
    assert counters.retried == 0
    assert counters.malformed == (counters.dead_lettered if on_error == "dlq" else counters.skipped)
    assert len(done.letters.offsets) == len(set(done.letters.offsets)) == counters.dead_lettered


def test_records_that_are_not_events_cost_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    source = Damage(OTHERS, structured_mode=False, huge_bytes_max=70_000)
    done = asyncio.run(Delivered(Recorder, "skip").run([source.record(Random(seed)) for seed in range(500)]))
    assert done.counters.malformed > 50
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert len(lines) == 1
    assert len(lines[0]) < 1_000
    assert lines[0].isprintable()


def test_an_event_with_two_types_is_given_to_no_handler() -> None:
    record = good("t")
    twice = record._replace(headers=[*record.headers, ("ce_type", b"task.ready")])
    done = asyncio.run(Delivered(Progress, "dlq").run([twice]))
    assert (done.counters.malformed, done.counters.retried, done.seen.events) == (1, 0, [])


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_the_console_has_one_line_for_every_event(records: list[WholeRecord]) -> None:
    for record in records:
        try:
            event = decode_event(record.value, record.headers)
            line = text_line(event, Meta(event, 0, 0))
            assert line.isprintable()
            assert "\n" not in json_line(event)
        except MalformedEvent:
            continue


@PATIENT
@given(hostile_records(OTHERS))
def test_a_dead_letter_that_is_cut_fits_and_says_how_large_it_was(record: WholeRecord) -> None:
    letter = DeadLetter(record.key, record.value, record.headers, [("dlq_error", b"e" * 4_096)])
    for kept in CUT_BYTES:
        cut = letter.cut(kept)
        size = WholeRecord(cut.key, cut.value, [*cut.headers, *cut.reasons]).size
        assert size <= 4_096 + 4 * kept + 16 * HEADERS_MAX
        assert dict(cut.reasons)["dlq_cut_from"] == b"%d" % record.size


# On a broker


@pytest.fixture
async def topic(bootstrap: str) -> str:
    name = unique("events")
    await create_topic(bootstrap, name)
    return name


async def publish(bootstrap: str, topic: str, records: list[WholeRecord]) -> None:
    producer = make_producer(Cluster.of(bootstrap))
    await producer.start()
    try:
        for record in records:
            key = b"" if record.key is None and record.value is None else record.key
            await producer.send_and_wait(topic, record.value, key=key, partition=0, headers=record.headers)
    finally:
        await producer.stop()


async def test_a_running_subscriber_survives_its_topic_and_commits_past_it(bootstrap: str, topic: str) -> None:
    source = Damage(OTHERS, structured_mode=False, huge_bytes_max=300_000)
    hostile = [source.record(Random(seed)) for seed in range(80)]
    tag = unique("recorder")
    config = SubscriberConfig(use="tests.delivery.plugins:Recorder", id=tag, settings={"tag": tag}, start_from="earliest")
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await publish(bootstrap, topic, [*hostile, good("after")])
        await until(lambda: "after" in [subject for subject, _ in SEEN[tag].events], "the event after them")
        await until(lambda: service.status()[0].in_flight == 0, "all of them acknowledged")
        status = service.status()[0]
        assert status.delivered + status.malformed == len(hostile) + 1
        assert (status.dead_lettered, status.restarts, status.reconnects) == (status.malformed, 0, 0)
    assert await committed_offset(bootstrap, config.group, topic) == len(hostile) + 1
    letters = await read_all(bootstrap, config.dead_letter_topic, status.malformed)
    assert len({dict(letter.headers)["dlq_offset"] for letter in letters}) == status.malformed


async def test_a_dead_letter_that_its_topic_does_not_take_is_cut(bootstrap: str, topic: str) -> None:
    tag = unique("small")
    config = SubscriberConfig(use="tests.delivery.plugins:Recorder", id=tag, settings={"tag": tag}, start_from="earliest")
    await create_topic(bootstrap, config.dead_letter_topic, max_message_bytes=200_000)
    poison = WholeRecord(b"k", b"\xff" * 900_000, [("ce_type", b"nonsense"), ("note", b"n" * 5_000)])
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)):
        await publish(bootstrap, topic, [poison, good("after")])
        await until(lambda: SEEN[tag].events, "the event after it")
        (letter,) = await read_all(bootstrap, config.dead_letter_topic, 1)
    assert letter.value == b"\xff" * CUT_BYTES[0]
    headers = dict(letter.headers)
    assert headers["dlq_cut_from"] == b"%d" % poison.size
    assert headers["ce_type"] == b"nonsense"


async def test_a_task_after_a_hostile_record_is_not_delayed(bootstrap: str, topic: str) -> None:
    key, value, headers = progress("plain", 1)
    tag = unique("recorder")
    config = SubscriberConfig(use="tests.delivery.plugins:Recorder", id=tag, settings={"tag": tag}, start_from="earliest")
    deep = WholeRecord(key, b'{"data":' + b"[" * 100_000, list(headers))
    async with running(DeliveryService(Cluster.of(bootstrap), [config], topic=topic)) as service:
        await publish(bootstrap, topic, [deep, WholeRecord(key, value, list(headers))])
        await until(lambda: SEEN[tag].events == [("plain", 1)], "the event of the same task")
        assert service.status()[0].retried == 0
