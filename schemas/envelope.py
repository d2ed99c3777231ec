"""The CloudEvents 1.0 envelope of an event on `hub.events` (binary mode: attributes in `ce_*` headers, JSON value).

Attributes for filters are in headers; the rest of the envelope is in the value, around `data`. `source` and `id` together are
unique. The id is the provenance `src` of the event, so a duplicate would have the same id and be detected.

Provenance `src`: "<intake partition>/<offset>/<index>" if a report caused the event, "agenda/<partition>/<item>/<due in
ms>/<index>" for a timer, "start/<partition>/<epoch>/<index>" for a take-over ("stop/..." for an orderly shutdown).
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from msgspec import Raw, Struct, defstruct, json

from .catalogue import CATALOGUE, EventType
from .fields import TOKEN, WORKER, about

#: Length in characters of foreign values in error messages.
QUOTED_CHARACTERS_MAX = 64
#: Length in characters of decoder messages in error messages.
MESSAGE_CHARACTERS_MAX = 256
#: The range of `severitynumber` (OpenTelemetry log data model, field SeverityNumber).
SEVERITIES = range(1, 25)


class EventBody(Struct, kw_only=True, omit_defaults=True, gc=False, rename={"from_": "from"}):
    """The JSON value of an event record: `data`, and the attributes of the envelope that are not in headers."""

    entity: Annotated[str, about("Entity of the event: `<kind>/<id>`.", "task/order-7")]
    sequence: Annotated[int, about("Number of the event within its entity and run, from 1, without gaps.", 3)]
    run: Annotated[
        int, about("Run of the entity's id: the offset of hub.intake at which it was created; 0 for an engine partition.", 42)
    ]
    src: Annotated[str, about("Provenance: the cause of the event; equal to its ce_id.", "0/42/3")]
    epoch: Annotated[
        int, about("Epoch of the engine partition that wrote the event, from 1; it increases with each take-over.", 5)
    ]
    rootid: Annotated[str | None, about("Id of the workflow's root; absent: the entity is not a step.", "order-6")] = None
    correlationid: Annotated[str | None, about("Groups related tasks; absent: none.", "order-7")] = None
    causationid: Annotated[
        str | None, about("The ce_id of the report that caused the event; absent: no report did.", "order-7")
    ] = None
    dataschema: Annotated[
        str | None,
        about(
            "URI path of the schema of `data`, with its major version; absent: written by an earlier release.",
            "/schemas/events/task.started/1",
        ),
    ] = None
    from_: Annotated[
        str | None,
        about(
            "State of the entity before the event; absent: the entity was created, or its state does not change.", "dispatched"
        ),
    ] = None
    to: Annotated[str | None, about("State of the entity after the event; absent: its state does not change.", "running")] = None
    data: Annotated[
        Any,
        about(
            "Data of the event, as declared for its type; absent: an empty object.",
            {"attempt": 1, "worker": WORKER, "token": TOKEN},
        ),
    ] = None


class RawEventBody(EventBody, kw_only=True, rename={"from_": "from"}):
    """`EventBody` for decoding: `data` stays bytes until its type is known."""

    data: Raw = Raw(b"{}")


class Event(NamedTuple):
    """One decoded lifecycle event. `entity` is "<kind>/<id>", `subject` the id, `data` an instance of the struct of its type."""

    type: str
    id: str
    source: str
    subject: str
    time: str
    entity: str
    sequence: int
    run: int
    src: str
    epoch: int
    namespace: str | None
    taskname: str | None
    rootid: str | None
    correlationid: str | None
    causationid: str | None
    severitynumber: int
    traceparent: str | None
    from_state: str | None
    to_state: str | None
    data: Any
    value: bytes

    def as_dict(self) -> dict[str, Any]:
        """The event as a structured CloudEvent (plain JSON types). Raises MalformedEvent if a part of the data that is kept as
        raw JSON (arguments, a result) is invalid."""
        fields: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
        for name, value in self._asdict().items():
            if value is None or name in ("data", "value", "from_state", "to_state"):
                continue
            fields[name] = value
        fields["dataschema"] = schema_of(self.type)
        if self.to_state is not None:
            fields["from"], fields["to"] = self.from_state, self.to_state
        try:
            fields["data"] = json.decode(json.encode(self.data))
        except (ValueError, RecursionError) as error:
            raise MalformedEvent(f"the data is not valid JSON: {printable(str(error))}") from None
        return fields


class MalformedRecord(ValueError):
    """A record that is invalid for its topic; the message has the reason, as printable text of bounded length."""


class MalformedEvent(MalformedRecord):
    """A record that is not a valid event of the hub; the message has the reason."""


class EventConstants(Struct, frozen=True, gc=False):
    """The attributes that are equal for all events of an entity: a part of what `Event` has."""

    source: str
    subject: str
    namespace: str | None
    taskname: str | None
    traceparent: str | None


class EventStamp(Struct, frozen=True, gc=False):
    """The attributes that several events of a transaction have in common. `severitynumber`: None for that of the type."""

    time: str
    severitynumber: int | None


_BODY = json.Decoder(RawEventBody)
_DATA: dict[str, json.Decoder[Any]] = {}


#: By the value of ce_type: the type, its severity, and the decoder of the value, `data` included.
_WHOLE: dict[bytes, tuple[str, int, Callable[[bytes], Any]]] = {}
_event: Callable[[type[Event], tuple[Any, ...]], Event] = tuple.__new__


def _data_decoder(row: EventType) -> "json.Decoder[Any]":
    decoder = _DATA.get(row.type)
    if decoder is None:
        decoder = _DATA[row.type] = json.Decoder(row.data)
    return decoder


def schema_of(event_type: str) -> str:
    """The CloudEvents dataschema of an event type: a URI path with the major version of the data's shape."""
    return f"/schemas/events/{event_type}/1"


def source_of(namespace: str | None, entity: str) -> str:
    """The CloudEvents source of an entity's events: a URI path (RFC 3986), one per entity."""
    return f"/hub/{quote(namespace or '-', safe='')}/{quote(entity, safe='/')}"


def header_map(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes]:
    """The headers of a record as a mapping. A header with a null value, which Kafka allows, is omitted; of several headers
    with the same name the last one with a value is used."""
    return {name: value for name, value in headers if value is not None}


def quoted(text: str) -> str:
    """Format a foreign value for an error message: escaped, and truncated to QUOTED_CHARACTERS_MAX characters."""
    if len(text) <= QUOTED_CHARACTERS_MAX:
        return ascii(text)
    return f"{ascii(text[:QUOTED_CHARACTERS_MAX])} (truncated, {len(text)} characters)"


def one_line(text: str) -> str:
    """Foreign text with all non-printable characters escaped, so that it cannot move the cursor, colour a terminal or break the
    line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def printable(text: str) -> str:
    """Format a decoder's message, which may contain foreign text: escaped, and truncated to MESSAGE_CHARACTERS_MAX characters."""
    escaped = one_line(text[:MESSAGE_CHARACTERS_MAX])
    return escaped if len(escaped) <= MESSAGE_CHARACTERS_MAX >= len(text) else f"{escaped[:MESSAGE_CHARACTERS_MAX]}..."


def decode_event(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Event:
    """Decode a record of `hub.events`. For any invalid record it raises MalformedEvent, and no other exception, with a message
    of bounded length."""
    names = header_map(headers)
    event_type = _header(names, "ce_type")
    row = CATALOGUE.get(event_type)
    if row is None:
        raise MalformedEvent(f"ce_type: unknown event type {quoted(event_type)}")
    body, data = _decode_value(row, value or b"")
    return Event(
        type=event_type,
        id=_header(names, "ce_id"),
        source=_header(names, "ce_source"),
        subject=_header(names, "ce_subject"),
        time=_time(names),
        entity=body.entity,
        sequence=body.sequence,
        run=body.run,
        src=body.src,
        epoch=body.epoch,
        namespace=_optional(names, "ce_namespace"),
        taskname=_optional(names, "ce_taskname"),
        rootid=body.rootid,
        correlationid=body.correlationid,
        causationid=body.causationid,
        severitynumber=_severity(names) or row.severity,
        traceparent=_optional(names, "ce_traceparent"),
        from_state=body.from_,
        to_state=body.to,
        data=data,
        value=value or b"",
    )


def event_constants(headers: Iterable[tuple[str, bytes | None]]) -> EventConstants:
    """The constants in the headers of an event, or in those that are before its ce_type. Raises MalformedEvent."""
    names = header_map(headers)
    return EventConstants(
        _header(names, "ce_source"),
        _header(names, "ce_subject"),
        _optional(names, "ce_namespace"),
        _optional(names, "ce_taskname"),
        _optional(names, "ce_traceparent"),
    )


def event_stamp(headers: Iterable[tuple[str, bytes | None]]) -> EventStamp:
    """The stamp in the headers of an event, or in those that are after its ce_id. Raises MalformedEvent."""
    names = header_map(headers)
    return EventStamp(_time(names), _severity(names))


def assemble_event(
    constants: EventConstants, stamp: EventStamp, event_type: bytes, event_id: bytes, value: bytes | None
) -> Event | None:
    """The event with these parts, the values of ce_type and ce_id, and the value of its record: equal to that of
    `decode_event`, at a lower cost. None if something is unusual or invalid, so that `decode_event` must decide."""
    try:
        if value is None or not value.isascii():
            (value or b"").decode()  # the decoder does not validate raw JSON within the data
        name, default, decode = _WHOLE.get(event_type) or _whole(event_type)
        body = decode(value or b"")
        severity = default if stamp.severitynumber is None else stamp.severitynumber
        return _event(
            Event,
            (
                name, event_id.decode(), constants.source, constants.subject, stamp.time, body.entity, body.sequence, body.run,
                body.src, body.epoch, constants.namespace, constants.taskname, body.rootid, body.correlationid,
                body.causationid, severity, constants.traceparent, body.from_, body.to, body.data, value,
            ),
        )  # fmt: skip
    except (ValueError, LookupError, RecursionError):
        return None


def _whole(event_type: bytes) -> tuple[str, int, Callable[[bytes], Any]]:
    name = event_type.decode()
    row = CATALOGUE[name]
    fields = [("data", row.data)]
    body = defstruct("WholeEventBody", fields, bases=(EventBody,), kw_only=True, rename={"from_": "from"}, gc=False)
    found = _WHOLE[event_type] = (name, row.severity, json.Decoder(body).decode)
    return found


def _decode_value(row: EventType, value: bytes) -> tuple[RawEventBody, Any]:
    try:
        value.decode()  # the decoder does not validate raw JSON within the data
        body = _BODY.decode(value)
        return body, _data_decoder(row).decode(body.data)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"the value is not a valid event body: {printable(str(error))}") from None


def _header(names: dict[str, bytes], name: str) -> str:
    text = _optional(names, name)
    if text is None:
        raise MalformedEvent(f"header {name} is missing")
    return text


def _optional(names: dict[str, bytes], name: str) -> str | None:
    if (raw := names.get(name)) is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MalformedEvent(f"header {name} is not valid UTF-8") from None


def _time(names: dict[str, bytes]) -> str:
    text = _header(names, "ce_time")
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise MalformedEvent(f"ce_time {quoted(text)} is not an RFC 3339 time")
    return text


def _severity(names: dict[str, bytes]) -> int | None:
    text = _optional(names, "ce_severitynumber")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) in SEVERITIES):
        raise MalformedEvent(
            f"ce_severitynumber: must be between {SEVERITIES.start} and {SEVERITIES.stop - 1}, got {quoted(text)}"
        )
    return int(text)
