"""The checker detects any single event of a good history that is removed, duplicated or swapped with another."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.verify import check

from .log_builder import LogBuilder
from .scenarios import ALL, Scenario, run

RUNS = st.lists(st.sampled_from(ALL), min_size=1, max_size=6)


def log_of(scenarios: list[Scenario], count: int, take_over: bool) -> LogBuilder:
    log = LogBuilder(count)
    log.worker("w1")
    run(log, [scenario(log, f"{scenario.__name__}-{number}") for number, scenario in enumerate(scenarios)])
    if take_over:
        log.take_over(0)
        run(log, [ALL[0](log, "after")])
    return log


LOGS = st.builds(log_of, RUNS, st.integers(1, 3), st.booleans())
"""Partition 0 always has several events: those of its engine and of the worker."""


@settings(max_examples=100, deadline=None)
@given(LOGS)
def test_no_good_history_has_findings(log: LogBuilder) -> None:
    report = check(log.history())
    assert report.ok, report.render()


@settings(max_examples=200, deadline=None)
@given(LOGS, st.data())
def test_a_dropped_event_is_found(log: LogBuilder, data: st.DataObject) -> None:
    partition = data.draw(st.sampled_from([partition for partition in log.partitions if partition.events]))
    del partition.events[data.draw(st.integers(0, len(partition.events) - 1))]
    assert not check(log.history()).ok


@settings(max_examples=200, deadline=None)
@given(LOGS, st.data())
def test_a_duplicated_event_is_found(log: LogBuilder, data: st.DataObject) -> None:
    partition = data.draw(st.sampled_from(log.partitions))
    at = data.draw(st.integers(0, len(partition.events) - 1))
    to = data.draw(st.integers(at, len(partition.events) - 1))
    history = log.history()
    records = [entry.row() for entry in partition.events]
    records.insert(to + 1, records[at])
    records = [record._replace(offset=offset) for offset, record in enumerate(records)]
    history.events = {**history.events, partition.number: records}
    assert not check(history).ok


@settings(max_examples=200, deadline=None)
@given(LOGS, st.data())
def test_two_swapped_events_are_found(log: LogBuilder, data: st.DataObject) -> None:
    candidates = [partition for partition in log.partitions if len(partition.events) > 1]
    partition = data.draw(st.sampled_from(candidates))
    places = st.integers(0, len(partition.events) - 1)
    one, other = data.draw(st.lists(places, min_size=2, max_size=2, unique=True))
    history = log.history()
    records: Any = history.events[partition.number]
    records[one], records[other] = (
        records[other]._replace(offset=records[one].offset),
        records[one]._replace(offset=records[other].offset),
    )
    assert not check(history).ok
