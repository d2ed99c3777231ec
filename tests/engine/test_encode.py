"""Batches as records: headers of events, forwarded records, and the largest record that fits."""

import msgspec
import pytest

from hub.core import Command, EmittedEvent, Reply
from hub.engine.encode import check_fits, encode, encode_events
from hub.engine.partition import DecidedBatch
from hub.kafka import (
    BATCH_BYTES_MAX,
    EVENTS,
    INTAKE,
    REPLIES,
    STATE,
    Record,
    RecordTooLarge,
    StoredRecord,
    TopicPartition,
    commands_topic,
)
from hub.kafka.codec import size_of
from schemas import events as e
from schemas import header_map
from schemas.commands import CancelAttempt, TaskReply

NOW_US = 1_700_000_000_000_000
BATCH_HEADER_BYTES = 61


def event(kind: str, subject: str, *, namespace: str | None = None, root: str | None = None) -> EmittedEvent:
    """An event of an entity."""
    return EmittedEvent(
        data=e.EngineStopped(input_offset=1),
        kind=kind,
        subject=subject,
        sequence=1,
        run=1,
        src="0/1.0",
        from_state=None,
        to_state=None,
        cause=None,
        namespace=namespace,
        taskname=None,
        root=root,
        correlation=None,
        traceparent=None,
    )


def sources(*events: EmittedEvent) -> list[bytes]:
    """The CloudEvents sources of these events, encoded together."""
    return [header_map(record.headers)["ce_source"] for record in encode_events(list(events), 1, NOW_US)]


def test_entities_of_different_kinds_with_one_name_are_distinguished() -> None:
    records = encode_events([event("task", "x"), event("worker", "x"), event("worker", "x"), event("task", "x")], 1, NOW_US)
    entities = [msgspec.json.decode(record.value or b"")["entity"] for record in records]
    assert entities == ["task/x", "worker/x", "worker/x", "task/x"]
    assert sources(event("task", "x"), event("worker", "x")) == [b"/hub/-/task/x", b"/hub/-/worker/x"]


def test_a_later_run_of_an_id_has_headers_and_a_key_of_its_own() -> None:
    before, after = event("task", "x", namespace="n"), event("task", "x", namespace="m", root="r")
    for one, source, key in ((before, b"/hub/n/task/x", b"x"), (after, b"/hub/m/task/x", b"r"), (before, b"/hub/n/task/x", b"x")):
        (record,) = encode_events([one], 1, NOW_US)
        assert (header_map(record.headers)["ce_source"], record.key) == (source, key)


@pytest.mark.parametrize(
    ("subject", "namespace", "source"),
    [
        ("t", "default", b"/hub/default/task/t"),
        ("a b", "default", b"/hub/default/task/a%20b"),
        ("t", "n s", b"/hub/n%20s/task/t"),
        ("t", "n/s", b"/hub/n%2Fs/task/t"),
        ("a/b", "default", b"/hub/default/task/a/b"),
    ],
)
def test_the_source_of_an_event_is_a_path(subject: str, namespace: str, source: bytes) -> None:
    assert sources(event("task", subject, namespace=namespace)) == [source]


def test_a_forwarded_record_keeps_its_headers_with_a_value_and_says_where_it_came_from() -> None:
    original = StoredRecord(7, 12, b"k", b"v", (("a", b"1"), ("none", None), ("b", b"2")))
    batch = DecidedBatch([], [], [], [], [(2, original)], 8, 1, NOW_US)
    (record,) = encode(batch, 1)[TopicPartition(INTAKE, 2)]
    assert (record.key, record.value, record.timestamp_ms) == (b"k", b"v", NOW_US // 1000)
    assert list(record.headers) == [("a", b"1"), ("b", b"2"), ("hub-origin", b"1/7")]


def test_records_for_which_workers_and_clients_wait_are_written_first() -> None:
    command = Command("default", 0, "w", "t", CancelAttempt(task="t", attempt=1, token="1"))
    reply = Reply(3, b"token", TaskReply(kind="ended", task="t", partition=1))
    batch = DecidedBatch([event("task", "t")], [command], [(b"t", b"row")], [reply], [], 8, 1, NOW_US)
    places = [TopicPartition(commands_topic("default"), 0), TopicPartition(REPLIES, 3)]
    assert list(encode(batch, 1)) == [*places, TopicPartition(EVENTS, 1), TopicPartition(STATE, 1)]


def test_a_record_that_fills_a_batch_fits_and_a_larger_one_is_refused_with_its_size() -> None:
    empty = size_of(Record(b"k", b"", (), 0))
    room = BATCH_BYTES_MAX - BATCH_HEADER_BYTES - empty
    place = TopicPartition("hub.events", 0)
    check_fits({place: [Record(b"k", b"x" * room, (), 0), Record(b"k", None, (), 0)]})
    with pytest.raises(RecordTooLarge, match=str(BATCH_BYTES_MAX + 1)):
        check_fits({place: [Record(b"k", b"", (), 0), Record(b"k", b"x" * (room + 1), (), 0)]})
