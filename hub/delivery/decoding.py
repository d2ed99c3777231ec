"""Decodes events in flight. What several events have in common (`hub.kafka.SharedHeaders`) is decoded once.

If a record is not as expected, its parts are not used: the general decoder (`schemas.decode_event`) decides what is wrong with
it.
"""

import contextlib
from collections.abc import Hashable
from typing import Any

from msgspec import Struct

from schemas import (
    Event,
    EventConstants,
    EventStamp,
    MalformedEvent,
    assemble_event,
    decode_event,
    event_constants,
    event_stamp,
)

from ..kafka import FormedRecord, SharedHeaders, decode_headers, read_bytes, with_length
from .selection import type_in

SUBJECT = "ce_subject"
_OF_ENTITIES = {"ce_source", "ce_subject"}
_OF_LEADS = {*_OF_ENTITIES, "ce_namespace", "ce_taskname", "ce_traceparent"}
_OF_TRAILS = {"ce_time", "ce_severitynumber"}
_OWN = {"ce_type", "ce_id"}
_NOT_OF_LEADS, _NOT_OF_TRAILS = _OF_TRAILS | _OWN, _OF_LEADS | _OWN
_NOT_OF_RESTS = _NOT_OF_LEADS | _OF_ENTITIES
_TO_SOURCE = b"".join(map(with_length, (b"ce_specversion", b"1.0", b"content-type", b"application/json", b"ce_source")))
_TO_SUBJECT = with_length(b"ce_subject")
_RESTS_MAX, _REST_BYTES_MAX = 512, 512
_rests: dict[bytes, EventConstants | None] = {}


class LeadFacts(Struct, gc=False):
    """What the lead of an event says about its entity. `subject`: the value of the first header ce_subject; None also without
    one. `constants`: None if they are not valid, not complete, or not all."""

    subject: bytes | None
    constants: EventConstants | None


class TrailFacts(Struct, gc=False):
    """What the trail of an event says. `stamp`: None if it is not valid, not complete, or not all."""

    stamp: EventStamp | None


def event_of(record: Any) -> Event:
    """The event in a fetched record. Raises MalformedEvent."""
    if type(record) is FormedRecord:
        lead, trail = record.lead, record.trail
        constants = (lead.facts or _facts_of_lead(lead)).constants
        stamp = (trail.facts or _facts_of_trail(trail)).stamp
        if constants is not None and stamp is not None:
            event = assemble_event(constants, stamp, record.first, record.second, record.value)
            if event is not None:
                return event
    return decode_event(record.value, record.headers)


def subject_of(record: Any) -> Hashable:
    """What orders an event among others: the value of the first header ce_subject; without such a header, the key."""
    if type(record) is FormedRecord:
        lead = record.lead
        subject = (lead.facts or _facts_of_lead(lead)).subject
        if subject is not None:
            return subject
    for name, value in record.headers:
        if name == SUBJECT:
            return value  # type: ignore[no-any-return]  # the records are those of several clients
    return record.key  # type: ignore[no-any-return]


def type_of(record: Any) -> bytes | None:
    """The value of the first header ce_type; None also without one."""
    return record.first if type(record) is FormedRecord else type_in(record.headers)


def _facts_of_lead(lead: SharedHeaders) -> LeadFacts:
    facts = lead.facts = _facts_of_usual_lead(lead) or _facts_of_any_lead(lead)
    return facts


def _facts_of_usual_lead(lead: SharedHeaders) -> LeadFacts | None:
    """Those of a lead as the hub writes it (`hub/engine/encode.py`): two constant headers, source and subject, and a rest that
    many entities have in common. None if it is another one, or not valid."""
    data, at = lead.data, lead.start
    if not data.startswith(_TO_SOURCE, at):
        return None
    source, at = read_bytes(data, at + len(_TO_SOURCE))
    if source is None or not data.startswith(_TO_SUBJECT, at):
        return None
    subject, at = read_bytes(data, at + len(_TO_SUBJECT))
    rest = data[at:]
    try:
        others = _rests[rest]
    except KeyError:
        others = _others_in(rest)
    if others is None or subject is None:
        return None
    try:
        constants = EventConstants(source.decode(), subject.decode(), others.namespace, others.taskname, others.traceparent)
        return LeadFacts(subject, constants)
    except UnicodeDecodeError:
        return None  # the general decoder reports it


def _others_in(rest: bytes) -> EventConstants | None:
    """The constants in the headers after the subject, which are remembered if they are short; source and subject are empty."""
    headers, others = decode_headers(rest), None
    if _NOT_OF_RESTS.isdisjoint([name for name, _ in headers]):
        with contextlib.suppress(MalformedEvent):
            others = event_constants((("ce_source", b""), ("ce_subject", b""), *headers))
    if len(rest) <= _REST_BYTES_MAX:
        if len(_rests) >= _RESTS_MAX:
            _rests.clear()
        _rests[rest] = others
    return others


def _facts_of_any_lead(lead: SharedHeaders) -> LeadFacts:
    headers, constants = lead.headers, None
    values = dict(headers)
    subject = values.get(SUBJECT) if len(values) == len(headers) else dict(headers[::-1]).get(SUBJECT)
    if _NOT_OF_LEADS.isdisjoint(values):
        with contextlib.suppress(MalformedEvent):  # the general decoder reports it
            constants = event_constants(headers)
    return LeadFacts(subject, constants)


def _facts_of_trail(trail: SharedHeaders) -> TrailFacts:
    headers, stamp = trail.headers, None
    if _NOT_OF_TRAILS.isdisjoint([name for name, _ in headers]):
        with contextlib.suppress(MalformedEvent):  # the general decoder reports it
            stamp = event_stamp(headers)
    facts = trail.facts = TrailFacts(stamp)
    return facts
