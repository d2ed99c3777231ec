"""The envelope of an event: headers as a mapping, and the errors for records that are not valid events."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from schemas import CATALOGUE, MalformedEvent, decode_event, header_map
from schemas.envelope import EventBody
from tests.records import PATIENT, Damage, Example, WholeRecord, binary, example_of, hostile_records

ATTRIBUTES = {
    "ce_specversion": b"1.0",
    "ce_id": b"0/7/1",
    "ce_source": b"/hub/default/task/t",
    "ce_subject": b"t",
    "ce_time": b"2026-01-01T00:00:00.000Z",
    "ce_severitynumber": b"9",
}

#: Characters of the longest message that an error about a record may have.
MESSAGE_MAX = 800


def event_example(kind: str) -> Example:
    body = example_of(EventBody, entity="task/t", sequence=1, run=0, src="0/7/1", epoch=1)
    return Example({**body, "data": example_of(CATALOGUE[kind].data)}, ATTRIBUTES, b"t")


EXAMPLES = {kind: [event_example(kind)] for kind in CATALOGUE}


def changed(name: str, value: bytes | None, kind: str = "task.ready") -> WholeRecord:
    """A well-formed event, but for one header."""
    record = binary(kind, EXAMPLES[kind][0])
    return record._replace(headers=[(name, value) if header[0] == name else header for header in record.headers])


def reason(record: WholeRecord) -> str:
    with pytest.raises(MalformedEvent) as refused:
        decode_event(record.value, record.headers)
    return str(refused.value)


def test_a_null_header_is_an_absent_one() -> None:
    assert header_map([("a", b"1"), ("b", None), ("a", None), ("c", b""), ("a", b"2"), ("a", None)]) == {"a": b"2", "c": b""}


@pytest.mark.parametrize("kind", CATALOGUE)
def test_every_type_of_event_is_read(kind: str) -> None:
    record = binary(kind, EXAMPLES[kind][0])
    event = decode_event(record.value, record.headers)
    assert (event.type, event.subject, event.id) == (kind, "t", "0/7/1")
    assert event.as_dict()["data"] is not None


@pytest.mark.parametrize("name", ["ce_type", "ce_id", "ce_source", "ce_subject", "ce_time"])
def test_a_required_header_that_is_null_or_not_text_is_named(name: str) -> None:
    assert name in reason(changed(name, None))
    assert name in reason(changed(name, b"\xff"))


@pytest.mark.parametrize("time", [b"", b"yesterday", b"2026-01-01T00:00:00", b"9" * 70_000, b"2026-13-01T00:00:00Z"])
def test_a_time_that_is_not_a_time_is_refused(time: bytes) -> None:
    assert "ce_time" in reason(changed("ce_time", time))


@pytest.mark.parametrize("severity", [b"0", b"25", b"-1", b"9" * 5_000, "٩".encode(), b"nine", b"\xff"])
def test_a_severity_out_of_range_is_refused(severity: bytes) -> None:
    assert "ce_severitynumber" in reason(changed("ce_severitynumber", severity))


def test_a_value_that_nests_too_deeply_is_refused() -> None:
    record = binary("task.ready", EXAMPLES["task.ready"][0])
    assert "value" in reason(record._replace(value=b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


@pytest.mark.parametrize("result", [b'"M\xfcnchen"', b"1e999", b'"\\ud800"'])
def test_a_result_that_is_not_json_for_others_is_a_malformed_event(result: bytes) -> None:
    record = binary("task.completed", EXAMPLES["task.completed"][0])
    assert record.value is not None
    value = record.value.replace(b'"data":{', b'"data":{"result":' + result + b",")
    with pytest.raises(MalformedEvent):
        decode_event(value, record.headers).as_dict()


@PATIENT
@given(st.lists(hostile_records(EXAMPLES), min_size=1, max_size=20))
def test_any_record_is_an_event_or_malformed(records: list[WholeRecord]) -> None:
    for record in records:
        refusal = why_not(record)
        assert refusal is None or (len(refusal) <= MESSAGE_MAX and refusal.isprintable())


def test_the_strategy_gives_both_events_and_what_is_none() -> None:
    source = Damage(EXAMPLES, structured_mode=False, huge_bytes_max=70_000)
    refusals = [why_not(source.record(Random(seed))) for seed in range(1_000)]
    assert 100 < refusals.count(None) < 900
    assert len(set(refusals)) > 50


def why_not(record: WholeRecord) -> str | None:
    """Why a record is not an event; None where it is one."""
    try:
        json.encode(decode_event(record.value, record.headers).as_dict())
    except MalformedEvent as error:
        return str(error)
    return None
