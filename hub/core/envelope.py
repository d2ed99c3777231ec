"""The envelope of a report."""

from typing import Any

from msgspec import Struct


class InvalidReport(Exception):
    """Input that is not a valid report; the message has the reason."""


class Envelope(Struct, frozen=True, gc=False):
    """The checked and bounded attributes of a record; no other part of the record may be copied. `value` is the JSON of the
    report.

    `source` and `event_id` are the CloudEvents attributes, None if missing. `reply` is the (partition, token) for the reply to
    a waiting client. `traceparent` is a valid W3C trace context. `forwarded_from` ("<partition>/<offset>") is the original
    location of a forwarded record. `record` is the original record.
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
