"""Observations of other processes (`event.observed`) become events, numbered per entity, on the home partition of the entity."""

from typing import Any

import pytest
from msgspec import json

from hub.core.bounds import OBSERVED_BYTES_MAX, OBSERVED_MAX
from hub.core.rows import ObservedRow
from hub.kafka import partition_of
from tests.engine.harness import World, check_log
from tests.engine.topics import Topics


def observe(world: World, entity: str, event: str, **data: Any) -> None:
    world.put("event.observed", {"entity": entity, "event": event, "data": data})
    world.step()


def observed(world: World, subject: str) -> list[tuple[str, int, str | None, str | None]]:
    """Type, sequence and states of the events of a subject."""
    return [(one.type, one.sequence, one.from_state, one.to_state) for one in world.events if one.subject == subject]


def row(world: World, entity: str) -> dict[str, Any] | None:
    value = world.rows.get(entity.encode())
    return None if value is None else json.decode(value)


def test_events_of_a_subscriber_are_numbered_and_have_its_states_also_after_a_take_over() -> None:
    world = World()
    observe(world, "subscriber/pager", "subscriber.started", use="pagerduty")
    observe(world, "subscriber/pager", "subscriber.failing", error="no route to host")
    world.crash()
    observe(world, "subscriber/pager", "subscriber.dead_lettered", count=3)
    observe(world, "subscriber/pager", "subscriber.recovered", failing_seconds=2.5)
    assert observed(world, "pager") == [
        ("subscriber.started", 1, "", "running"),
        ("subscriber.failing", 2, "running", "failing"),
        ("subscriber.dead_lettered", 3, None, None),
        ("subscriber.recovered", 4, "failing", "running"),
    ]
    assert world.events[-1].data.failing_seconds == 2.5
    assert world.events[-1].severitynumber == 9
    check_log(world)


@pytest.mark.parametrize(
    ("entity", "first", "last"),
    [
        ("subscriber/pager", ("subscriber.started", {"use": "x"}), ("subscriber.stopped", {})),
        (
            "alert/slow/charge",
            ("alert.fired", {"rule": "slow", "key": "charge"}),
            ("alert.resolved", {"rule": "slow", "key": "charge", "fired_at": "2026-01-01T09:30:00Z"}),
        ),
    ],
)
def test_its_row_ends_with_its_last_event_and_the_next_event_starts_a_run(
    entity: str, first: tuple[str, dict[str, Any]], last: tuple[str, dict[str, Any]]
) -> None:
    world = World()
    for event, data in (first, last):
        observe(world, entity, event, **data)
    assert row(world, entity) is None
    observe(world, entity, first[0], **first[1])
    events = [one for one in world.events if one.entity == entity]
    assert [one.sequence for one in events] == [1, 2, 1]
    assert events[2].run > events[0].run
    assert row(world, entity) == {"run": events[2].run, "sequence": 1, "state": events[2].to_state}
    check_log(world)


def test_an_observation_on_a_foreign_partition_is_forwarded_to_the_home_of_its_entity() -> None:
    topics = Topics(2)
    worlds = [World(partition=number, partitions=2, topics=topics) for number in range(2)]
    home = partition_of("pager", 2)
    observe(worlds[1 - home], "subscriber/pager", "subscriber.paused", by="me")
    worlds[home].step()
    assert [one.type for one in worlds[home].events if one.subject == "pager"] == ["subscriber.paused"]
    assert worlds[1 - home].types()[-1] == "engine.report_forwarded"


@pytest.mark.parametrize(
    ("entity", "event", "data", "reason"),
    [
        ("task/order-7", "task.completed", {}, "entity: must begin with one of alert/, subscriber/"),
        ("subscriber/", "subscriber.paused", {}, "entity must not be empty"),
        ("subscriber/x", "task.completed", {}, "event: no type of events about a subscriber"),
        ("subscriber/x", "alert.fired", {"rule": "r"}, "event: no type of events about a subscriber"),
        ("subscriber/x", "subscriber.exploded", {}, "event: no type of events about a subscriber"),
        ("subscriber/x", "subscriber.started", {}, "data: "),
        ("subscriber/x", "subscriber.dead_lettered", {"count": "many"}, "data: "),
        ("subscriber/x", "subscriber.paused", {"reason": "y" * OBSERVED_BYTES_MAX}, "data: longer than 16,384 bytes"),
    ],
)
def test_an_invalid_observation_is_dead_lettered_with_the_field(
    entity: str, event: str, data: dict[str, Any], reason: str
) -> None:
    world = World()
    observe(world, entity, event, **data)
    assert reason in world.last("engine.report_dead_lettered").data.reason
    assert not [key for key in world.rows if key.startswith((b"subscriber/", b"alert/"))]


def test_a_partition_knows_a_limited_number_of_entities() -> None:
    world = World()
    known = world.engine.state.observed_rows
    known.update({f"alert/r/{number}": ObservedRow(run=0) for number in range(OBSERVED_MAX - 1)})
    observe(world, "alert/r/last", "alert.fired", rule="r")
    observe(world, "alert/r/one-more", "alert.fired", rule="r")
    assert "know more than 10,000" in world.last("engine.report_dead_lettered").data.reason
    observe(world, "alert/r/last", "alert.silenced", rule="r", until="2026-01-01T12:00:00Z")
    assert observed(world, "r/last")[-1] == ("alert.silenced", 2, "firing", "silenced")
