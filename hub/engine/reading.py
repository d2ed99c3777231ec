"""Records of the intake as reports: what they are, in either form of a CloudEvent, or why they are none."""

from typing import Any

from msgspec import DecodeError, Raw, json

from schemas import reports as r

from ..kafka import REPLY_PARTITIONS, StoredRecord

#: A report larger than this is set aside unread. The topics take records of up to 8 MiB: what is admitted must fit
#: into an event together with its envelope, and into a row.
REPORT_BYTES_MAX = 4 * 1024 * 1024

DECODERS = {name: json.Decoder(report) for name, report in r.REPORTS.items()}
_STRUCTURED = json.Decoder(dict[str, Raw])


class Unreadable(Exception):
    """Input that is no report; the message says why."""


def content_of(record: StoredRecord, headers: dict[str, bytes]) -> tuple[str, bytes, dict[str, bytes]]:
    """Type and value of a report: binary mode, or a structured CloudEvent taken apart into the same form."""
    value = record.value
    if value is None:
        raise Unreadable("the record has no value")
    if len(value) > REPORT_BYTES_MAX:
        raise Unreadable(f"{len(value)} bytes, more than {REPORT_BYTES_MAX}")
    kind = headers.get("ce_type")
    if kind is None:
        return _structured(value, headers)
    name = text_of_header(kind, "ce_type")
    if name not in DECODERS:
        raise Unreadable(f"ce_type {name[:100]!r} is no report; known are: {', '.join(sorted(DECODERS))}")
    return name, value, headers


def _structured(value: bytes, headers: dict[str, bytes]) -> tuple[str, bytes, dict[str, bytes]]:
    try:
        fields = _STRUCTURED.decode(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"no ce_type header, and the value is no structured CloudEvent: {error}") from None
    if "specversion" not in fields or "type" not in fields:
        raise Unreadable("no ce_type header, and the value is no structured CloudEvent: specversion or type is missing")
    taken = dict(headers)
    for field, raw in fields.items():
        if field == "data":
            continue
        try:
            text = json.decode(raw)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"{field}: {error}") from None
        taken[f"ce_{field}"] = str(text).encode(errors="replace")
    if "ce_replyto" in taken:
        taken.setdefault("replyto", taken["ce_replyto"])
    name = taken["ce_type"].decode()
    if name not in DECODERS:
        raise Unreadable(f"type {name[:100]!r} is no report; known are: {', '.join(sorted(DECODERS))}")
    if "data" not in fields:
        raise Unreadable("data is missing from the structured CloudEvent")
    return name, bytes(fields["data"]), taken


def decode_report(name: str, value: bytes) -> Any:
    try:
        return DECODERS[name].decode(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{name}: {error}") from None


def text_of_header(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{name} is not UTF-8") from None


def reply_address(headers: dict[str, bytes]) -> tuple[int, bytes] | None:
    """The waiting client's address, "<partition>:<token>"; None when nobody waits or the address is none."""
    raw = headers.get("replyto")
    if raw is None:
        return None
    partition, _, token = raw.partition(b":")
    if not partition.isdigit() or not token or int(partition) >= REPLY_PARTITIONS:
        return None
    return int(partition), token
