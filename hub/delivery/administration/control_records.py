"""The records of `hub.subscribers`, a compacted topic with one partition: keys and values.

    pause/<id>                              {"since", "reason"}                      the subscriber is paused
    dlq/<id>/<partition>/<offset>           {"outcome", "at", "timestamp_ms"}        this dead letter was retried or dropped
    state/<id>/<key>                        a JSON value                             `ctx.state` of the subscriber

A tombstone ends each. Ids of subscribers have no slash.
"""

from typing import Literal

from msgspec import MsgspecError, Struct, json


class Pause(Struct, frozen=True):
    """Since when a subscriber is paused (RFC 3339, UTC), and why."""

    since: str
    reason: str = ""


class Mark(Struct, frozen=True):
    """What was done with a dead letter. `at`: when (RFC 3339, UTC). `timestamp_ms`: the timestamp of its record, which
    distinguishes it from another record with the same offset, after the topic was deleted and created again."""

    outcome: Literal["retried", "dropped"]
    at: str
    timestamp_ms: int


Place = tuple[int, int]
"""Partition and offset of a dead letter in its topic."""


def subscriber_of(key: bytes) -> str:
    """The subscriber that a record is about; "" if the key is not valid."""
    return (key.split(b"/", 2) + [b""])[1].decode(errors="replace")


def pause_key(subscriber: str) -> bytes:
    """The key of the pause of a subscriber."""
    return f"pause/{subscriber}".encode()


def mark_prefix(subscriber: str) -> bytes:
    """How the keys of all marks of a subscriber begin."""
    return f"dlq/{subscriber}/".encode()


def mark_key(subscriber: str, place: Place) -> bytes:
    """The key of the mark of a dead letter."""
    return mark_prefix(subscriber) + b"%d/%d" % place


def state_prefix(subscriber: str) -> bytes:
    """How the keys of the state of a subscriber begin."""
    return f"state/{subscriber}/".encode()


def pauses_in(latest: dict[bytes, bytes]) -> dict[str, Pause]:
    """The paused subscribers, by id. Records that are not valid are left out."""
    found = {}
    for key, value in latest.items():
        kind, _, subscriber = key.partition(b"/")
        if kind == b"pause" and (pause := read_pause(value)) is not None:
            found[subscriber.decode(errors="replace")] = pause
    return found


def read_pause(value: bytes) -> Pause | None:
    """The pause in a record's value; None if it is not valid."""
    try:
        return json.decode(value, type=Pause)
    except (MsgspecError, RecursionError):
        return None


def marks_in(latest: dict[bytes, bytes], subscriber: str) -> dict[Place, Mark]:
    """The marks of the dead letters of a subscriber. Records that are not valid are left out."""
    prefix, found = mark_prefix(subscriber), {}
    for key, value in latest.items():
        if key.startswith(prefix):
            try:
                partition, offset = key.removeprefix(prefix).split(b"/")
                found[int(partition), int(offset)] = json.decode(value, type=Mark)
            except (ValueError, RecursionError):  # MsgspecError is a ValueError
                continue
    return found
