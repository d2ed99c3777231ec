"""The catalogue of instruments: names, units and labels follow the conventions, and no label is an id."""

import re
from itertools import pairwise

import pytest

from schemas.instruments import (
    INSTRUMENTS,
    NAME,
    RESERVED_LABELS,
    Instrument,
    InstrumentKind,
    attribute_name,
    prometheus_name,
    unit_suffix,
)

#: The labels that instruments may have: names and kinds, of which a hub has few.
LABELS = {
    *("namespace", "task", "queue", "pool", "subscriber", "instrument", "rule", "severity", "channel", "status"),
    *("result", "outcome", "error_type", "reason", "code", "report", "type", "kind", "state", "timer", "api", "partition"),
    *("messaging_system", "messaging_operation_name", "messaging_destination_name"),
}

each = pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=list(INSTRUMENTS))


@each
def test_names_and_labels_are_those_of_opentelemetry_and_prometheus(instrument: Instrument) -> None:
    assert instrument.name.startswith(("hub.", "messaging."))
    assert NAME.fullmatch(instrument.name)
    assert all(NAME.fullmatch(label) and "." not in label for label in instrument.labels)
    assert len(set(instrument.labels)) == len(instrument.labels)
    assert not RESERVED_LABELS & set(instrument.labels)
    assert instrument.description.endswith(".")


@each
def test_labels_have_few_values_and_are_never_ids(instrument: Instrument) -> None:
    assert set(instrument.labels) <= LABELS
    assert not {"id", "run", "worker", "token", "trace_id", "host", "pid"} & LABELS


@each
def test_units_are_seconds_bytes_or_counted_things(instrument: Instrument) -> None:
    assert re.fullmatch(r"s|By|\{[a-z]+\}", instrument.unit)


@each
def test_only_histograms_have_bounds_and_they_ascend(instrument: Instrument) -> None:
    assert bool(instrument.bounds) == (instrument.kind == "histogram")
    assert all(lower < upper for lower, upper in pairwise(instrument.bounds))


@each
def test_a_name_does_not_repeat_what_the_suffix_says(instrument: Instrument) -> None:
    """Translators of OpenTelemetry do not add a suffix that the name has already, so that the names would differ."""
    words = set(re.split(r"[._]", instrument.name))
    assert not words & {"total", "seconds", "bytes", "ratio", "info", "bucket", "sum", unit_suffix(instrument.unit)}


def test_names_in_prometheus_are_unique_also_with_the_series_of_histograms() -> None:
    names = [name for one in INSTRUMENTS.values() for name in series_names(one)]
    assert len(names) == len(set(names))


def series_names(instrument: Instrument) -> list[str]:
    if instrument.kind == "histogram":
        return [instrument.prometheus + suffix for suffix in ("", "_bucket", "_sum", "_count")]
    return sorted({instrument.prometheus, instrument.prometheus.removesuffix("_total")})


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("hub.task.run.duration", "s", "histogram", "hub_task_run_duration_seconds"),
        ("hub.subscriber.lag.time", "s", "gauge", "hub_subscriber_lag_time_seconds"),
        ("hub.events.published", "{event}", "counter", "hub_events_published_total"),
        ("hub.process.cpu.time", "s", "counter", "hub_process_cpu_time_seconds_total"),
        ("hub.process.memory", "By", "gauge", "hub_process_memory_bytes"),
        ("hub.queue.depth", "{task}", "updown", "hub_queue_depth"),
        ("orders.charged", "", "counter", "orders_charged_total"),
    ],
)
def test_names_in_prometheus(name: str, unit: str, kind: InstrumentKind, expected: str) -> None:
    assert prometheus_name(name, unit, kind) == expected


def test_attributes_of_otlp_are_those_of_opentelemetry() -> None:
    assert attribute_name("error_type") == "error.type"
    assert attribute_name("messaging_destination_name") == "messaging.destination.name"
    assert attribute_name("queue") == "queue"
    assert attribute_name("subscriber_state") == "subscriber_state"
