"""What surrounds a report."""

from typing import Any, NamedTuple


class InvalidReport(Exception):
    """Input that is not a report; the message says why."""


class Envelope(NamedTuple):
    """What surrounds a report, checked and bounded: all of a record that may be copied. `value` is the report's JSON.

    `source` and `event_id` are the CloudEvents attributes, None where the record has none. `reply` is the (partition, token) of a
    waiting client. `traceparent` is a valid W3C trace context. `forwarded_from` ("<partition>/<offset>") is where an engine
    partition found the record that it sent on. `record` is what all of it was read from.
    """

    type: str
    offset: int
    value: bytes
    source: str | None
    event_id: str | None
    reply: tuple[int, bytes] | None
    traceparent: str | None
    forwarded_from: str | None
    record: Any
