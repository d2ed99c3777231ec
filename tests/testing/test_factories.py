"""Events and submissions from the factories match the schemas; invalid ones are rejected with the name of the field."""

import pytest
from msgspec import json

from hub.testing import make_event, make_event_record, make_submission
from schemas import CATALOGUE, decode_event


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_there_is_an_event_of_every_type(event_type: str) -> None:
    event = make_event(event_type)
    assert (event.type, event.entity.split("/")[0]) == (event_type, CATALOGUE[event_type].entity)
    assert event.severitynumber == CATALOGUE[event_type].severity
    assert event.as_dict()["data"]


def test_fields_of_data_and_envelope_are_as_given() -> None:
    envelope = {"subject": "order-8", "sequence": 4, "taskname": "ship", "from_state": "running", "to_state": "failed"}
    event = make_event("task.failed", envelope=envelope, attempt=3, error={"type": "E", "message": "m"})
    assert (event.subject, event.entity, event.sequence, event.taskname) == ("order-8", "task/order-8", 4, "ship")
    assert (event.from_state, event.to_state) == ("running", "failed")
    assert (event.data.attempt, event.data.error.type) == (3, "E")
    completed = make_event("task.completed", result={"paid": True})
    assert json.decode(completed.data.result) == {"paid": True}


def test_a_record_has_the_headers_that_the_engine_writes() -> None:
    record = make_event_record("task.ready", envelope={"subject": "order-8", "rootid": "order-6", "traceparent": "00-1-2-03"})
    assert record.key == b"order-6"
    names = dict(record.headers)
    assert names["ce_sequence"] == b"0000000001"
    assert names["ce_traceparent"] == b"00-1-2-03"
    assert decode_event(record.value, record.headers).rootid == "order-6"


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: make_event("task.complete"), "task.complete"),
        (lambda: make_event("task.failed", atempt=1), "atempt"),
        (lambda: make_event("task.failed", attempt="one"), "attempt"),
        (lambda: make_event("task.ready", envelope={"subjekt": "x"}), "subjekt"),
        (lambda: make_submission("charge", nmae=1), "nmae"),
        (lambda: make_submission("charge", priority="high"), "priority"),
    ],
)
def test_what_the_schemas_do_not_have_is_refused(make: object, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        make()  # type: ignore[operator]


def test_a_submission_is_plain_json() -> None:
    assert make_submission() == {"name": "charge"}
    steps = {"a": {"name": "x"}, "b": {"name": "y", "depends_on": ["a"]}}
    assert make_submission("fulfil", tasks=steps, tags={"team": "billing"})["tasks"] == steps


def test_no_field_of_an_events_data_is_hidden_by_the_factory() -> None:
    assert not [row.type for row in CATALOGUE.values() if "envelope" in row.data.__struct_encode_fields__]
