"""Strict decoding of records of `hub.events` to facts; every deviation from the documented format is a finding (I32).

Unlike other readers, which ignore unknown fields of the body and the data, the checker reports them.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from msgspec import DecodeError, Raw, Struct, ValidationError, defstruct, json

from schemas import CATALOGUE, source_of

from .history import LogRecord, headers_of

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Body(Struct, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    entity: str
    sequence: int
    run: int
    src: str
    epoch: int
    rootid: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    dataschema: str | None = None
    from_: str | None = None
    to: str | None = None
    data: Raw = Raw(b"{}")


class Fact(Struct, gc=False):
    """One event, decoded for the checker.

    `kind` and `id` identify the entity. `cause` is `src` without its last part, `index` is that part. `input_offset`: the
    intake offset that caused the event, -1 for timers and take-overs. `due_ms`: when the timer was due, -1 otherwise.
    `cause_epoch`: the epoch in the src of a take-over, -1 otherwise.
    """

    partition: int
    offset: int
    type: str
    entity: str
    kind: str
    id: str
    run: int
    sequence: int
    epoch: int
    time_ms: int
    src: str
    cause: str
    cause_partition: int
    index: int
    input_offset: int
    due_ms: int
    cause_epoch: int
    root: str | None
    from_state: str | None
    to_state: str | None
    namespace: str | None
    data: Any


class Unreadable(ValueError):
    """A record that cannot be decoded as an event; the message has the reason."""


_BODY = json.Decoder(_Body)


@cache
def _strict(event_type: str) -> "json.Decoder[Any]":
    data = CATALOGUE[event_type].data
    return json.Decoder(defstruct(f"Strict{data.__name__}", [], bases=(data,), kw_only=True, forbid_unknown_fields=True))


@lru_cache(maxsize=64)
def time_ms(text: str) -> int:
    """Parse an RFC 3339 time. Returns milliseconds since the Unix epoch. Raises ValueError."""
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MILLISECOND


def cause_of(src: str) -> tuple[str, int, int, int, int, int]:
    """Parse a provenance into (cause, partition, index, input offset, due ms, epoch); -1 for missing parts.

    Raises ValueError if `src` has none of the three forms.
    """
    cause, _, index = src.rpartition("/")
    if cause.startswith("agenda/"):
        _, partition, item = cause.split("/", 2)
        _, _, due = item.rpartition("/")
        return cause, int(partition), int(index), -1, int(due), -1
    if cause.startswith(("start/", "stop/")):
        _, partition, epoch = cause.split("/")
        return cause, int(partition), int(index), -1, -1, int(epoch)
    partition, offset = cause.split("/")
    return cause, int(partition), int(index), int(offset), -1, -1


def read_fact(partition: int, record: LogRecord, problems: list[str]) -> Fact:
    """Decode `record`; minor deviations are appended to `problems`. Raises Unreadable."""
    headers = headers_of(record)
    try:
        event_type = headers["ce_type"].decode()
        if event_type not in CATALOGUE:
            raise Unreadable(f"unknown event type {event_type!r}")
        body = _BODY.decode(record.value or b"")
        data = _strict(event_type).decode(body.data)
        happened = time_ms(headers["ce_time"].decode())
        cause, cause_partition, index, input_offset, due, cause_epoch = cause_of(body.src)
    except KeyError as missing:
        raise Unreadable(f"missing header {missing.args[0]}") from None
    except (DecodeError, ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the value does not match its schema: {error}") from None
    except ValueError as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"a time or src is malformed: {error}") from None
    kind, _, entity_id = body.entity.partition("/")
    namespace = headers.get("ce_namespace")
    fact = Fact(
        partition,
        record.offset,
        event_type,
        body.entity,
        kind,
        entity_id,
        body.run,
        body.sequence,
        body.epoch,
        happened,
        body.src,
        cause,
        cause_partition,
        index,
        input_offset,
        due,
        cause_epoch,
        body.rootid,
        body.from_,
        body.to,
        None if namespace is None else namespace.decode(),
        data,
    )
    _check_envelope(fact, record, headers, problems)
    return fact


def _check_envelope(fact: Fact, record: LogRecord, headers: dict[str, bytes], problems: list[str]) -> None:
    if headers.get("ce_specversion") != b"1.0":
        problems.append(f"specversion: expected '1.0', got {headers.get('ce_specversion')!r}")
    event_id = headers.get("ce_id")
    if event_id is None or event_id.decode() != fact.src:
        problems.append(f"id: expected the src {fact.src!r}, got {event_id!r}")
    subject = headers.get("ce_subject")
    if subject is None or subject.decode() != fact.id:
        problems.append(f"subject: expected the entity {fact.entity!r}, got {subject!r}")
    source = headers.get("ce_source", b"").decode()
    if source != f"/hub/{fact.namespace or '-'}/{fact.entity}" and source != source_of(fact.namespace, fact.entity):
        problems.append(f"source: expected {source_of(fact.namespace, fact.entity)!r}, got {source!r}")
    sequence = headers.get("ce_sequence")
    if sequence is not None and sequence != b"%010d" % fact.sequence:
        problems.append(f"header sequence: expected {fact.sequence} as in the body, got {sequence!r}")
    row = CATALOGUE[fact.type]
    severity = headers.get("ce_severitynumber")
    if severity is not None and severity != b"%d" % row.severity:
        problems.append(f"severity: expected {row.severity} for this type, got {severity!r}")
    if fact.kind != row.entity:
        problems.append(f"entity {fact.entity!r} cannot have an event {fact.type}")
    if fact.kind == "task":
        if fact.root is None:
            problems.append("rootid is missing")
        elif record.key is None or record.key.decode() != fact.root:
            problems.append(f"record key: expected the root {fact.root!r}, got {record.key!r}")
