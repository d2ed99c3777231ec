"""Decodes records of the intake: a checked and bounded `Envelope` from either mode of a CloudEvent, or an error with the reason.

Everything that is copied from a record to events, rows, commands or replies is bounded here or in the core, so that the output
of a record always fits. Identifiers (`ce_id`, `ce_source`) are never truncated; too long ones are rejected. A malformed reply
address or trace context is ignored.
"""

from base64 import b64decode
from collections.abc import Mapping
from re import compile as pattern
from typing import Any

from msgspec import DecodeError, Raw, ValidationError, json

from schemas import decoding_problem, quoted_with_hash
from schemas import reports as r

from ..core import ESCAPED_MAX, ID_BYTES, REQUESTS, SOURCE_BYTES, Envelope, InvalidReport, escaped_bytes
from ..kafka import REPLY_PARTITIONS, UNREADABLE, StoredRecord

#: Larger reports are dead-lettered without being decoded. The topics accept records of up to 8 MiB: an admitted report must
#: fit into an event together with its envelope, and into a row.
REPORT_BYTES_MAX = 4 * 1024 * 1024

#: Most bytes of key and headers together; a forwarded record has both and one more header.
HEADERS_BYTES_MAX = 64 * 1024

#: Most bytes of a worker's report about itself, whose options are copied to an event.
WORKER_REPORT_BYTES_MAX = 1024 * 1024

DECODERS = {name: json.Decoder(report) for name, report in r.REPORTS.items()}
_NAMES = {name.encode(): name for name in DECODERS}
_REQUESTS = frozenset(name for name, report in r.REPORTS.items() if report in REQUESTS)
_STRUCTURED = json.Decoder(dict[str, Raw])

#: W3C Trace Context, version 00 (https://www.w3.org/TR/trace-context/#traceparent-header); all zeros are invalid ids.
_TRACEPARENT = pattern(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z").match
_ORIGIN = pattern(rb"[0-9]{1,10}/[0-9]{1,19}\Z").match
_REPLY_TO = pattern(rb"(?s)([0-9]{1,5}):(.{1,255})\Z").match


class InvalidRequest(InvalidReport):
    """A rejected request of a client, which gets a reply at the address in its `envelope`."""

    def __init__(self, reason: str, envelope: Envelope) -> None:
        super().__init__(reason)
        self.envelope = envelope


#: Type, value and attributes of a record; only the type has been checked.
_Parts = tuple[str, bytes, Mapping[str, bytes]]


def envelope_of(record: StoredRecord) -> Envelope:
    """The envelope of a record. Raises InvalidReport; InvalidRequest if `ce_id` or `ce_source` of a request is invalid."""
    kind, value, attributes = _parts_of(record)
    replyto, context, origin = attributes.get("replyto"), attributes.get("ce_traceparent"), attributes.get("hub-origin")
    reply = None if replyto is None else reply_address(replyto)
    try:
        source = _identity(attributes.get("ce_source"), "ce_source", SOURCE_BYTES)
        event_id = _identity(attributes.get("ce_id"), "ce_id", ID_BYTES)
    except InvalidReport as why:
        if kind not in _REQUESTS:
            raise
        raise InvalidRequest(str(why), Envelope(kind, record.offset, value, None, None, reply, None, None, record)) from None
    size = len(record.key or b"") + len("".join(attributes)) + len(b"".join(attributes.values()))
    if size > HEADERS_BYTES_MAX:
        raise InvalidReport(f"key and headers: must be at most {HEADERS_BYTES_MAX} bytes, got {size}")
    context = context or attributes.get("traceparent")
    traceparent = None if context is None else _traceparent(context)
    forwarded_from = None if origin is None else _forwarded_from(origin)
    return Envelope(kind, record.offset, value, source, event_id, reply, traceparent, forwarded_from, record)


def _parts_of(record: StoredRecord) -> _Parts:
    """Type, value and attributes, of the binary mode or of a structured CloudEvent."""
    value = record.value
    if value is None:
        raise InvalidReport(_why_unreadable(record) or "the record has no value")
    if len(value) > REPORT_BYTES_MAX:
        raise InvalidReport(f"value: must be at most {REPORT_BYTES_MAX} bytes, got {len(value)}")
    attributes = {name: header for name, header in record.headers if header is not None}
    kind = attributes.get("ce_type")
    if kind is None:
        return _structured(value, attributes)
    return _NAMES.get(kind) or _known(_text(kind, "ce_type"), "ce_type"), value, attributes


def _why_unreadable(record: StoredRecord) -> str | None:
    """The reader's reason if this record replaces records that could not be decoded."""
    reason = dict(record.headers).get(UNREADABLE)
    return None if reason is None else reason.decode(errors="replace")


def _known(name: str, field: str) -> str:
    if name not in DECODERS:
        raise InvalidReport(f"{field} {name[:100]!r} is not a report type; valid types: {', '.join(sorted(DECODERS))}")
    return name


def _structured(value: bytes, headers: Mapping[str, bytes]) -> _Parts:
    """Decode a CloudEvent in the JSON format (CloudEvents 1.0, "JSON Event Format")."""
    try:
        fields = _STRUCTURED.decode(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"header ce_type is missing, and the value is not a structured CloudEvent: {error}") from None
    if "specversion" not in fields or "type" not in fields:
        raise InvalidReport(
            "header ce_type is missing, and the value is not a structured CloudEvent: specversion or type is missing"
        )
    attributes = {name: header for name, header in headers.items() if not name.startswith("ce_")}
    for field in ("type", "id", "source", "traceparent", "replyto"):
        if field in fields:
            attributes[f"ce_{field}"] = _attribute(fields[field], field)
    if "ce_replyto" in attributes:
        attributes.setdefault("replyto", attributes["ce_replyto"])
    return _known(attributes["ce_type"].decode(), "type"), _data_of(fields), attributes


def _attribute(raw: Raw, field: str) -> bytes:
    try:
        return json.decode(raw, type=str).encode()
    except (DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidReport(f"{field}: {error}") from None


def _data_of(fields: Mapping[str, Raw]) -> bytes:
    if "data" in fields:
        return bytes(fields["data"])
    if "data_base64" not in fields:
        raise InvalidReport("data is missing from the structured CloudEvent")
    try:
        return b64decode(_attribute(fields["data_base64"], "data_base64"), validate=True)
    except ValueError as error:
        raise InvalidReport(f"data_base64: {error}") from None


def decode_report(envelope: Envelope) -> Any:
    """Decode the report in an envelope to its struct. Raises InvalidReport; InvalidRequest if a request is valid JSON that
    does not match its schema."""
    if len(envelope.value) > WORKER_REPORT_BYTES_MAX and envelope.type.startswith("worker."):
        raise InvalidReport(
            f"{envelope.type}: the value has {len(envelope.value)} bytes; the limit for reports of a worker about itself is"
            f" {WORKER_REPORT_BYTES_MAX}"
        )
    try:
        return DECODERS[envelope.type].decode(envelope.value)
    except ValidationError as error:
        if envelope.type in _REQUESTS:
            raise InvalidRequest(decoding_problem(error), envelope) from None
        raise InvalidReport(f"{envelope.type}: {decoding_problem(error)}") from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReport(f"{envelope.type}: the value is not JSON: {error}") from None


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidReport(f"{name} is not UTF-8") from None


def _identity(raw: bytes | None, name: str, bytes_max: int) -> str | None:
    """Decode an identifier; None if missing. Raises InvalidReport if it is not UTF-8, or longer than `bytes_max` in
    JSON."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InvalidReport(f"{name} is not UTF-8: {quoted_with_hash(raw)}") from None
    if len(raw) * ESCAPED_MAX > bytes_max and escaped_bytes(text) > bytes_max:
        raise InvalidReport(f"{name} is longer than {bytes_max} bytes: {quoted_with_hash(raw)}")
    return text


def reply_address(raw: bytes) -> tuple[int, bytes] | None:
    """Parse the reply address "<partition>:<token>"; None if malformed."""
    found = _REPLY_TO(raw)
    if found is None:
        return None
    partition, token = found.groups()
    return None if int(partition) >= REPLY_PARTITIONS else (int(partition), token)


def _traceparent(raw: bytes) -> str | None:
    return raw.decode() if _TRACEPARENT(raw) else None


def _forwarded_from(raw: bytes) -> str:
    if not _ORIGIN(raw):
        raise InvalidReport(f"hub-origin is not <partition>/<offset>: {quoted_with_hash(raw)}")
    return raw.decode()
