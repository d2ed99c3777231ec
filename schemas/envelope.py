"""The CloudEvents 1.0 envelope of an event on `hub.events` (binary mode: attributes in `ce_*` headers, JSON value).

What filters need is in the headers; the rest of the envelope is in the value, around `data`. `source` + `id` are unique:
the id is the event's provenance `src`, so a repeated emission would carry the same id and be visible.

Provenance `src`: "<intake partition>/<offset>/<index>" for what a report caused,
"agenda/<partition>/<item>/<due in ms>/<index>" for what time caused, "start/<partition>/<epoch>/<index>" for a take-over
("stop/..." for an orderly end).
"""

from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import Raw, Struct, ValidationError, json

from .catalogue import CATALOGUE, EventType

SPECVERSION = b"1.0"
CONTENT_TYPE = b"application/json"
SEQUENCE_DIGITS = 10


class EventBody(Struct, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """The JSON value of an event record: the envelope's less used part and `data`."""

    entity: str
    sequence: int
    life: int
    src: str
    epoch: int
    rootid: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    dataschema: str | None = None
    from_: str | None = None
    to: str | None = None
    data: Any = None


class RawEventBody(EventBody, kw_only=True, rename={"from_": "from"}):
    """`EventBody` as it is read: `data` stays bytes until its type is known."""

    data: Raw = Raw(b"{}")


class Event(NamedTuple):
    """One lifecycle event, decoded. `entity` is "<kind>/<id>"; `subject` is the id; `data` an instance of its type's struct."""

    type: str
    id: str
    source: str
    subject: str
    time: str
    entity: str
    sequence: int
    life: int
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
        """The event as a structured CloudEvent (plain JSON types)."""
        fields: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
        for name, value in self._asdict().items():
            if value is None or name in ("data", "value", "from_state", "to_state"):
                continue
            fields[name] = value
        if self.to_state is not None:
            fields["from"], fields["to"] = self.from_state, self.to_state
        fields["data"] = json.decode(json.encode(self.data))
        return fields


class MalformedEvent(ValueError):
    """A record that is not an event of this hub; the message says what is missing."""


_BODY = json.Decoder(RawEventBody)
_DATA: dict[str, json.Decoder[Any]] = {}


def _data_decoder(row: EventType) -> "json.Decoder[Any]":
    decoder = _DATA.get(row.type)
    if decoder is None:
        decoder = _DATA[row.type] = json.Decoder(row.data)
    return decoder


def source_of(namespace: str | None, entity: str) -> str:
    """The CloudEvents source of an entity's events: a URI path (RFC 3986), one per entity."""
    return f"/hub/{quote(namespace or '-', safe='')}/{quote(entity, safe='/')}"


def header_map(headers: Any) -> dict[str, bytes]:
    """Headers of a record as a mapping (the last of equal names wins)."""
    return dict(headers)


def decode_event(value: bytes | None, headers: Any) -> Event:
    """The event in a record of `hub.events`. Raises MalformedEvent naming what is wrong."""
    names = header_map(headers)
    try:
        event_type = names["ce_type"].decode()
        row = CATALOGUE.get(event_type)
        if row is None:
            raise MalformedEvent(f"ce_type {event_type!r} is not in the catalogue")
        body = _BODY.decode(value or b"")
        data = _data_decoder(row).decode(body.data)
        severity = names.get("ce_severitynumber")
        return Event(
            type=event_type,
            id=names["ce_id"].decode(),
            source=names["ce_source"].decode(),
            subject=names["ce_subject"].decode(),
            time=names["ce_time"].decode(),
            entity=body.entity,
            sequence=body.sequence,
            life=body.life,
            src=body.src,
            epoch=body.epoch,
            namespace=_text(names.get("ce_namespace")),
            taskname=_text(names.get("ce_taskname")),
            rootid=body.rootid,
            correlationid=body.correlationid,
            causationid=body.causationid,
            severitynumber=int(severity) if severity else row.severity,
            traceparent=_text(names.get("ce_traceparent")),
            from_state=body.from_,
            to_state=body.to,
            data=data,
            value=value or b"",
        )
    except KeyError as missing:
        raise MalformedEvent(f"header {missing.args[0]} is missing") from None
    except (ValidationError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, MalformedEvent):
            raise
        raise MalformedEvent(f"the value is not an event body: {error}") from None


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()
