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

from ..kafka import SharedHeaders, SharedHeadersRecord, decode_headers, length_prefixed, read_bytes
from .selection import type_in

SUBJECT = "ce_subject"
_OF_ENTITIES = {"ce_source", "ce_subject"}
_OF_PREFIXES = {*_OF_ENTITIES, "ce_namespace", "ce_taskname", "ce_traceparent"}
_OF_SUFFIXES = {"ce_time", "ce_severitynumber"}
_OWN = {"ce_type", "ce_id"}
_NOT_OF_PREFIXES, _NOT_OF_SUFFIXES = _OF_SUFFIXES | _OWN, _OF_PREFIXES | _OWN
_NOT_OF_CONSTANTS = _NOT_OF_PREFIXES | _OF_ENTITIES
_TO_SOURCE = b"".join(map(length_prefixed, (b"ce_specversion", b"1.0", b"content-type", b"application/json", b"ce_source")))
_TO_SUBJECT = length_prefixed(b"ce_subject")
_CONSTANTS_MAX, _CONSTANTS_BYTES_MAX = 512, 512
_known_constants: dict[bytes, EventConstants | None] = {}


class PrefixFacts(Struct, gc=False):
    """What the prefix of an event says about its entity. `subject`: the value of the first header ce_subject; None also without
    one. `constants`: None if they are not valid, not complete, or not all."""

    subject: bytes | None
    constants: EventConstants | None


class SuffixFacts(Struct, gc=False):
    """What the suffix of an event says. `stamp`: None if it is not valid, not complete, or not all."""

    stamp: EventStamp | None


def event_of(record: Any) -> Event:
    """The event in a fetched record. Raises MalformedEvent."""
    if type(record) is SharedHeadersRecord:
        prefix, suffix = record.prefix, record.suffix
        constants = (prefix.facts or _facts_of_prefix(prefix)).constants
        stamp = (suffix.facts or _facts_of_suffix(suffix)).stamp
        if constants is not None and stamp is not None:
            event = assemble_event(constants, stamp, record.first, record.second, record.value)
            if event is not None:
                return event
    return decode_event(record.value, record.headers)


def subject_of(record: Any) -> Hashable:
    """What orders an event among others: the value of the first header ce_subject; without such a header, the key."""
    if type(record) is SharedHeadersRecord:
        prefix = record.prefix
        subject = (prefix.facts or _facts_of_prefix(prefix)).subject
        if subject is not None:
            return subject
    for name, value in record.headers:
        if name == SUBJECT:
            return value  # type: ignore[no-any-return]  # the records are those of several clients
    return record.key  # type: ignore[no-any-return]


def type_of(record: Any) -> bytes | None:
    """The value of the first header ce_type; None also without one."""
    return record.first if type(record) is SharedHeadersRecord else type_in(record.headers)


def _facts_of_prefix(prefix: SharedHeaders) -> PrefixFacts:
    facts = prefix.facts = _facts_of_usual_prefix(prefix) or _facts_of_any_prefix(prefix)
    return facts


def _facts_of_usual_prefix(prefix: SharedHeaders) -> PrefixFacts | None:
    """Those of a prefix as the hub writes it (`hub/engine/encode.py`): two constant headers, source and subject, and a rest that
    many entities have in common. None if it is another one, or not valid."""
    data, at = prefix.data, prefix.start
    if not data.startswith(_TO_SOURCE, at):
        return None
    source, at = read_bytes(data, at + len(_TO_SOURCE))
    if source is None or not data.startswith(_TO_SUBJECT, at):
        return None
    subject, at = read_bytes(data, at + len(_TO_SUBJECT))
    rest = data[at:]
    try:
        others = _known_constants[rest]
    except KeyError:
        others = _others_in(rest)
    if others is None or subject is None:
        return None
    try:
        constants = EventConstants(source.decode(), subject.decode(), others.namespace, others.taskname, others.traceparent)
        return PrefixFacts(subject, constants)
    except UnicodeDecodeError:
        return None  # the general decoder reports it


def _others_in(rest: bytes) -> EventConstants | None:
    """The constants in the headers after the subject, which are remembered if they are short; source and subject are empty."""
    headers, others = decode_headers(rest), None
    if _NOT_OF_CONSTANTS.isdisjoint([name for name, _ in headers]):
        with contextlib.suppress(MalformedEvent):
            others = event_constants((("ce_source", b""), ("ce_subject", b""), *headers))
    if len(rest) <= _CONSTANTS_BYTES_MAX:
        if len(_known_constants) >= _CONSTANTS_MAX:
            _known_constants.clear()
        _known_constants[rest] = others
    return others


def _facts_of_any_prefix(prefix: SharedHeaders) -> PrefixFacts:
    headers, constants = prefix.headers, None
    values = dict(headers)
    subject = values.get(SUBJECT) if len(values) == len(headers) else dict(headers[::-1]).get(SUBJECT)
    if _NOT_OF_PREFIXES.isdisjoint(values):
        with contextlib.suppress(MalformedEvent):  # the general decoder reports it
            constants = event_constants(headers)
    return PrefixFacts(subject, constants)


def _facts_of_suffix(suffix: SharedHeaders) -> SuffixFacts:
    headers, stamp = suffix.headers, None
    if _NOT_OF_SUFFIXES.isdisjoint([name for name, _ in headers]):
        with contextlib.suppress(MalformedEvent):  # the general decoder reports it
            stamp = event_stamp(headers)
    facts = suffix.facts = SuffixFacts(stamp)
    return facts
