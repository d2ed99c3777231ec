"""Decodes events in flight. What several events have in common (`hub.kafka.SharedHeaders`) is decoded once.

If a record is not as expected, its parts are not used: the general decoder (`schemas.decode_event`) decides what is wrong with
it.
"""

import contextlib
from collections.abc import Hashable
from typing import Any, NamedTuple

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

from ..kafka import FormedRecord, SharedHeaders

SUBJECT = "ce_subject"
_OF_LEADS = {"ce_source", "ce_subject", "ce_namespace", "ce_taskname", "ce_traceparent"}
_OF_TRAILS = {"ce_time", "ce_severitynumber"}
_OWN = {"ce_type", "ce_id"}
_NOT_OF_LEADS, _NOT_OF_TRAILS = _OF_TRAILS | _OWN, _OF_LEADS | _OWN


class LeadFacts(NamedTuple):
    """What the lead of an event says about its entity. `subject`: the value of the first header ce_subject; None also without
    one. `constants`: None if they are not valid, not complete, or not all."""

    subject: bytes | None
    constants: EventConstants | None


class TrailFacts(NamedTuple):
    """What the trail of an event says. `stamp`: None if it is not valid, not complete, or not all."""

    stamp: EventStamp | None


def event_of(record: Any) -> Event:
    """The event in a fetched record. Raises MalformedEvent."""
    if type(record) is FormedRecord:
        _, _, _, _, value, lead, _, (event_type, event_id), trail, _ = record
        _, constants = lead.facts or _facts_of_lead(lead)
        (stamp,) = trail.facts or _facts_of_trail(trail)
        if constants is not None and stamp is not None:
            event = assemble_event(constants, stamp, event_type, event_id, value)
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


def _facts_of_lead(lead: SharedHeaders) -> LeadFacts:
    headers, constants = lead.headers, None
    values = dict(headers)
    subject = values.get(SUBJECT) if len(values) == len(headers) else dict(headers[::-1]).get(SUBJECT)
    if _NOT_OF_LEADS.isdisjoint(values):
        try:
            constants = event_constants(headers)
        except MalformedEvent:
            constants = None  # the general decoder reports it
    facts = lead.facts = LeadFacts(subject, constants)
    return facts


def _facts_of_trail(trail: SharedHeaders) -> TrailFacts:
    stamp = None
    if _NOT_OF_TRAILS.isdisjoint([name for name, _ in trail.headers]):
        with contextlib.suppress(MalformedEvent):  # the general decoder reports it
            stamp = event_stamp(trail.headers)
    facts = trail.facts = TrailFacts(stamp)
    return facts
