"""`hub bench delivery` gives its keys. Small numbers: nothing here says how fast anything is."""

import json

from hub.bench.otlp_sink import count_spans
from schemas import decode_event
from subscribers.otel.encode import encode_spans
from subscribers.otel.spans import spans_of
from tests.cli.running import hub
from tests.delivery.event_log import completed


def test_delivery_is_measured_on_a_hub_of_its_own() -> None:
    done = hub("bench", "delivery", "--json", "--tasks", "40", "--rounds", "1", "--flush", "os")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["bench"], found["tasks"], found["rounds"], found["fsync"]) == ("delivery", 40, 1, False)
    assert found["events"] >= 2 * 40 * 5, "the warm-up and a round of tasks with five events"
    assert found["spans"] >= 2 * 40 * 3
    for name in ("events_per_second", "events_per_second_elapsed", "spans_per_second", "spans_per_second_elapsed"):
        assert found[name] > 0, name
    assert found["spread"].keys() == {"events_per_second", "spans_per_second", "us_per_task"}
    assert found["us_per_task"] >= 0
    assert found.keys() >= {"cores", "load_before", "platform", "versions"}


def test_the_collector_of_the_benchmark_counts_spans() -> None:
    key, value, headers = completed("019a0000-0000-7000-8000-000000000001", 5)
    spans = spans_of(decode_event(value, headers))
    assert spans
    assert count_spans(encode_spans(spans, {"service.name": "hub"})) == len(spans)
    assert count_spans(encode_spans(spans * 40, {"service.name": "x" * 300})) == 40 * len(spans)
    assert count_spans(b"") == 0
