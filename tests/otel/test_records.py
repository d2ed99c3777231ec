"""Lifecycle events as log records."""

import pytest

from hub.testing import make_event
from schemas import CATALOGUE
from schemas.tracing import span_id_of, trace_id_of
from subscribers.otel.records import record_of
from subscribers.otel.spans import spans_of

from .recorded import SECRET, recorded


@pytest.mark.parametrize("event_type", sorted(CATALOGUE))
def test_every_event_is_a_record_with_its_name_and_severity(event_type: str) -> None:
    record = record_of(make_event(event_type))
    assert record.event_name == f"hub.{event_type}"
    assert record.severity == CATALOGUE[event_type].severity
    assert record.severity_text == {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR"}[record.severity]
    assert record.body
    assert (record.trace is not None) == (CATALOGUE[event_type].entity == "task")


def test_a_record_belongs_to_the_span_that_owns_it() -> None:
    exported = {(span.trace, span.id) for event in recorded() for span in spans_of(event)}
    records = [record_of(event) for event in recorded()]
    assert {(one.trace, one.span) for one in records if one.trace is not None} <= exported
    started = record_of(make_event("attempt.started", envelope={"run": 5}, attempt=2))
    assert (started.trace, started.span) == (trace_id_of("order-7", 5), span_id_of("attempt", "order-7", 5, 2))


def test_a_failure_has_the_attributes_of_an_exception() -> None:
    (failed,) = [one for one in map(record_of, recorded()) if one.event_name == "hub.attempt.failed" and "Permanent" in one.body]
    attributes = dict(failed.attributes)
    assert (attributes["exception.type"], attributes["exception.message"]) == ("Permanent", "there is no such order")
    assert "there is no such order" in str(attributes["exception.stacktrace"])
    assert attributes["error.type"] == "Permanent"


def test_no_record_has_an_argument_or_a_result() -> None:
    assert not [event for event in recorded() if SECRET in repr(record_of(event))]
