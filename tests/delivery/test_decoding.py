"""Events are decoded from parts that several records have in common, with the same results as one by one."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core import EmittedEvent
from hub.delivery.decoding import event_of, subject_of
from hub.delivery.selection import Selection
from hub.delivery.window import Item, Session
from hub.engine.encode import encode_events
from hub.kafka import Record, SharedHeadersRecord, build_batch, header_walk
from hub.kafka.fetched import FetchedBatch, FetchedBatches, record_at
from hub.kafka.header_walk import HeaderWalk
from schemas import Event, MalformedEvent, decode_event
from schemas.events import TaskBlocked, TaskReady
from subscribers import Subscriber, SubscriberSettings, on
from tests.records import PATIENT, Damage, Example, WholeRecord, hostile_records
from tests.schemas.test_envelope import ATTRIBUTES, event_example

NOW_MS = 1_767_225_600_000


class Everything(Subscriber[SubscriberSettings]):
    """Takes all types."""

    @on("*")
    async def one(self, event: Any) -> None: ...


def in_the_order_of_the_engine(kind: str) -> list[Example]:
    """Examples of a type, also with ce_type between its other headers; `hostile_records` puts it first, too."""
    plain = event_example(kind)
    prefix = {
        "ce_specversion": b"1.0",
        "content-type": b"application/json",
        **{name: ATTRIBUTES[name] for name in ("ce_source", "ce_subject")},
        "ce_taskname": b"charge",
        "ce_namespace": b"default",
    }
    suffix = {name: ATTRIBUTES[name] for name in ("ce_time", "ce_severitynumber")}
    return [plain, plain._replace(headers={**prefix, "ce_type": kind.encode(), "ce_id": ATTRIBUTES["ce_id"], **suffix})]


EXAMPLES = {kind: in_the_order_of_the_engine(kind) for kind in ("task.ready", "task.completed", "task.started", "worker.lost")}


def picked(records: list[WholeRecord]) -> list[Any]:
    """The records as a subscriber that takes all types gets them."""
    batch = FetchedBatches(build_batch([Record(one.key, one.value, one.headers, NOW_MS) for one in records])).next_batch()
    assert isinstance(batch, FetchedBatch)
    view = batch.view()
    found = HeaderWalk(Selection(Everything, SubscriberSettings(), None)).find(view, 0)[1]
    return [record or record_at(view, at) for record, _, _, at in found]


def outcome(decode: Any, *arguments: Any) -> Any:
    """The event, or the message of the error."""
    try:
        return decode(*arguments)
    except MalformedEvent as error:
        return str(error)


def without_first(record: WholeRecord, leave_out: bool) -> WholeRecord:
    """The record without its first header ce_type, if it has another one."""
    kinds = [at for at, (name, _) in enumerate(record.headers) if name == "ce_type"]
    if not leave_out or len(kinds) < 2:
        return record
    return record._replace(headers=[header for at, header in enumerate(record.headers) if at != kinds[0]])


event_records = st.builds(without_first, hostile_records(EXAMPLES, huge_bytes_max=70_000), st.booleans())


@PATIENT
@given(st.lists(event_records, min_size=1, max_size=30))
def test_any_record_is_decoded_as_without_its_neighbours(records: list[WholeRecord]) -> None:
    found = picked(records)
    assert [record.offset for record in found] == list(range(len(records)))
    for record, written in zip(found, records, strict=True):
        assert (record.key, record.value, list(record.headers)) == (written.key, written.value, list(written.headers))
        assert outcome(event_of, record) == outcome(decode_event, written.value, written.headers)
        subjects = [value for name, value in written.headers if name == "ce_subject"]
        assert subject_of(record) == (subjects[0] if subjects else written.key)
        assert record.timestamp == NOW_MS


def test_about_half_of_these_records_are_decoded_from_common_parts() -> None:
    source = Damage(EXAMPLES, structured_mode=False, huge_bytes_max=1_000)
    found = picked([without_first(source.record(Random(seed)), True) for seed in range(600)])
    shared = [record for record in found if type(record) is SharedHeadersRecord]
    outcomes = [outcome(event_of, record) for record in shared]
    assert 60 < len(shared) < 540
    assert len({message for message in outcomes if isinstance(message, str)}) > 10
    assert sum(isinstance(one, Event) for one in outcomes) > 10


def emitted(subject: str, data: Any, src: str = "0/9/2") -> EmittedEvent:
    """An event of a task, as the engine emits it."""
    return EmittedEvent(
        data=data,
        kind="task",
        subject=subject,
        sequence=2,
        run=7,
        src=src,
        from_state="created",
        to_state="ready",
        cause=None,
        namespace="shop",
        taskname="charge",
        root=None,
        correlation=None,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


SRC_OF_A_TIMER = "agenda/0/plan:019a0000-0000-7000-8000-000000000001.600/1767225600000/90"
"""Longer than the 63 bytes whose length takes one byte."""


def test_the_records_of_the_engine_are_decoded_from_common_parts() -> None:
    written = [
        record
        for data, src in ((TaskBlocked(unmet=1), "0/9/2"), (TaskReady(queue="q"), SRC_OF_A_TIMER))
        for record in encode_events([emitted(f"t{number}", data, src) for number in range(3)], 1, NOW_MS * 1000)
    ]
    found = picked([WholeRecord(one.key, one.value, list(one.headers)) for one in written])
    assert all(type(record) is SharedHeadersRecord for record in found)
    assert len({id(record.prefix) for record in found}) == 3
    assert [event_of(record) for record in found] == [decode_event(one.value, one.headers) for one in written]


def test_prefixes_are_remembered_until_twice_as_many_others_have_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_walk, "PREFIXES_MAX", 4)
    others = [f"o{number}" for number in range(9)]
    subjects = ["a", *others[:4], "a", *others[4:7], "a", *others[7:], "a"]
    written = encode_events([emitted(subject, TaskReady(queue="q")) for subject in subjects], 1, NOW_MS * 1000)
    found = picked([WholeRecord(one.key, one.value, list(one.headers)) for one in written])
    first, again, later, last = [record.prefix for record, subject in zip(found, subjects, strict=True) if subject == "a"]
    assert first is again is later
    assert last is not first
    assert [event_of(record) for record in found] == [decode_event(one.value, one.headers) for one in written]


START: list[tuple[str, bytes | None]] = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]
END: list[tuple[str, bytes | None]] = [
    ("ce_type", b"task.ready"), ("ce_id", b"0/9/2"), ("ce_time", b"2026-01-01T00:00:00Z"), ("ce_severitynumber", b"9"),
]  # fmt: skip
PREFIXES: list[list[tuple[str, bytes | None]]] = [
    [("ce_source", source), ("ce_subject", subject), *rest]
    for source in (b"/hub/shop/task/a", b"/hub/" + b"s" * 300, b"\xff", b"", None)
    for subject in (b"a", b"b" * 100, b"\xff", None)
    for rest in (
        [],
        [("ce_taskname", b"charge"), ("ce_namespace", b"shop")],
        [("ce_taskname", None), ("ce_namespace", b"\xff")],
        [("ce_subject", b"another"), ("ce_taskname", b"charge")],
        [("ce_taskname", b"charge"), ("ce_time", b"2025-01-01T00:00:00Z")],
    )
]


def test_a_prefix_with_a_known_rest_is_decoded_as_by_the_general_decoder() -> None:
    value = encode_events([emitted("a", TaskReady(queue="q"))], 1, NOW_MS * 1000)[0].value
    written = [WholeRecord(b"a", value, [*START, *prefix, *END]) for prefix in PREFIXES]
    for _ in range(2):  # also when each rest is known
        found = picked(written)
        assert sum(type(record) is SharedHeadersRecord for record in found) == len(PREFIXES)
        for record, one in zip(found, written, strict=True):
            assert outcome(event_of, record) == outcome(decode_event, one.value, one.headers)
            assert subject_of(record) == next(text for name, text in one.headers if name == "ce_subject")


def test_an_acknowledged_record_is_released() -> None:
    (record,) = picked([WholeRecord(b"k", b"v", [("ce_type", b"task.ready"), ("ce_id", b"1")])])
    item = Item(Session(10, 1000, lambda: None), None, record, 3)
    assert (item.partition, item.key, item.value, item.headers) == (3, b"k", b"v", (("ce_type", b"task.ready"), ("ce_id", b"1")))
    assert item.size > record.size
    item.finish()
    assert (item.record, item.key, item.value, item.headers, item.offset, item.timestamp_ms) == (None, None, None, (), 0, NOW_MS)
