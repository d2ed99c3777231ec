"""The view is a function of the records: repeated, interleaved, saved and restored ones give the same."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.analytics import Rule, Shape, View, ViewContents, parse_rules, plain, snapshots
from hub.analytics.moments import time_of
from hub.analytics.reading import take_record
from hub.kafka import StoredRecord
from hub.testing import make_event_record
from schemas import Event

from .logs import at, completed, event, rule

RULES: list[Rule] = parse_rules(
    [
        {
            "name": "fails",
            "kind": "threshold",
            "match": {"type": "task.failed"},
            "for_each": ["task"],
            "window": "30s",
            "at_least": 2,
        },
        {
            "name": "slow",
            "kind": "threshold",
            "measure": "p95",
            "match": {"type": "task.completed"},
            "for_each": ["task"],
            "window": "30s",
            "at_least": 1,
        },
        {"name": "quiet", "kind": "absence", "match": {"type": "task.completed"}, "for_each": ["task"], "window": "20s"},
        {
            "name": "stuck",
            "kind": "sequence",
            "match": {"type": "task.created"},
            "then": {"type": "task.completed"},
            "within": "10s",
            "missing": True,
        },
        {"name": "slo", "kind": "slo", "match": {"type": "task.*"}, "bad": {"type": "task.failed"}, "objective": 0.9},
    ]
)
SHAPE = Shape(RULES, 5.0, 60.0)


def make(kind: str, second: int, task: str) -> Event:
    match kind:
        case "task.completed":
            return completed(second, task, id=f"{task}-{second % 7}", run=second / 50)
        case "alert.fired":
            return event(second, kind, id=f"fails/{task}", rule="fails", key=task)
        case "alert.resolved":
            return event(second, kind, id=f"fails/{task}", rule="fails", key=task)
        case "alert.silenced":
            return event(second, kind, id=f"fails/{task}", rule="fails", key=task, until=time_of(at(second + 9)))
    return event(second, kind, task, id=f"{task}-{second % 7}")


KINDS = ["task.created", "task.completed", "task.failed", "attempt.failed", "alert.fired", "alert.resolved", "alert.silenced"]
LOGS = st.lists(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 300)), max_size=25).map(
        lambda log: sorted(log, key=lambda one: one[1])
    ),
    min_size=1,
    max_size=3,
)


@given(LOGS, st.integers(0, 2**32), st.booleans())
@settings(max_examples=120, deadline=None)
def test_a_view_that_was_interrupted_equals_a_rebuilt_one(logs: list[list[tuple[str, int]]], seed: int, restored: bool) -> None:
    """Each partition has tasks of its own, as on the log."""
    partitions = [[make(kind, second, f"task-{number}") for kind, second in log] for number, log in enumerate(logs)]
    rebuilt = View(SHAPE)
    for number, events in enumerate(partitions):
        for offset, one in enumerate(events):
            rebuilt.take(number, 2 * offset, one)
    chance, followed = random.Random(seed), View(SHAPE)
    read = [0] * len(partitions)
    while any(read[number] < len(events) for number, events in enumerate(partitions)):
        number = chance.randrange(len(partitions))
        if chance.random() < 0.2:
            read[number] = max(0, read[number] - chance.randrange(5))  # delivered again
        if restored and chance.random() < 0.2:
            saved, followed = msgspec.msgpack.encode(followed.contents()), View(SHAPE)
            followed.restore(msgspec.msgpack.decode(saved, type=ViewContents))
        if read[number] < len(partitions[number]):
            followed.take(number, 2 * read[number], partitions[number][read[number]])
            read[number] += 1
    assert plain(followed.contents()) == plain(rebuilt.contents())
    for now in (at(100), at(200), at(301), at(400)):
        assert followed.findings(now) == rebuilt.findings(now)


def test_a_snapshot_is_read_only_by_a_view_of_the_same_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    view, digest = View(SHAPE), snapshots.digest_of(SHAPE, "127.0.0.1:9092")
    view.take(0, 7, completed(1))
    assert snapshots.read(tmp_path, digest) is None
    snapshots.write(tmp_path / "data", digest, view.contents())
    contents = snapshots.read(tmp_path / "data", digest)
    assert contents is not None
    assert plain(contents) == plain(view.contents())
    other: Any = SHAPE._replace(keep_seconds=61.0)
    assert snapshots.read(tmp_path / "data", snapshots.digest_of(other, "127.0.0.1:9092")) is None
    (tmp_path / "data" / snapshots.FILE).write_bytes(b"\x81")
    assert snapshots.read(tmp_path / "data", digest) is None
    assert "the snapshot cannot be used" in caplog.text


def test_old_events_count_only_if_they_are_about_alerts() -> None:
    view = View(SHAPE)
    view.take(0, 1, make("task.failed", 1, "charge"), book_only=True)
    view.take(0, 2, make("alert.fired", 2, "charge"), book_only=True)
    assert (view.events, view.windows.panes, [alert.key for alert in view.book.firing("fails")]) == (0, {}, ["charge"])


def test_a_hub_without_recent_events_is_silent_since_the_horizon() -> None:
    """A process that starts while nothing happens finds the absence."""
    record = make_event_record("task.completed", envelope={"time": time_of(at(0))})
    stored = StoredRecord(7, at(0) // 1_000, record.key, record.value, record.headers)
    view = View(SHAPE._replace(rules=[rule(kind="absence", window="1m")]))
    take_record(view, 0, stored, at(1_000) // 1_000)
    assert (view.position(0).next, view.events) == (8, 0)
    assert not view.findings(at(1_059))["r"]
    assert view.findings(at(1_060))["r"][""].value == 60


def test_a_record_that_is_not_an_event_is_skipped() -> None:
    view = View(SHAPE)
    take_record(view, 0, StoredRecord(7, 0, b"", b"{", []))
    assert (view.position(0).next, view.events) == (8, 0)


def test_the_report_that_caused_an_event_is_known() -> None:
    view = View(SHAPE)
    view.take(0, 5, completed(1))
    assert (view.position(0).next, view.position(0).decided) == (6, 0)
    view.take(3, 5, completed(1))  # its provenance names partition 0
    assert view.position(3).decided == -1
