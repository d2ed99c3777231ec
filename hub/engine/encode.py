"""Encodes a batch as records by topic and partition.

Events are CloudEvents 1.0 in binary mode. What the events of an entity have in common is encoded once, for several batches.
"""

from functools import lru_cache
from re import compile as pattern

from msgspec import json

from schemas import COMMANDS, TYPE_OF_DATA, EventBody, schema_of, source_of

from ..core import EmittedEvent, text_of
from ..kafka import (
    BATCH_BYTES_MAX,
    EVENTS,
    INTAKE,
    REPLIES,
    STATE,
    VARINTS,
    EncodedHeaders,
    Record,
    RecordTooLarge,
    TopicPartition,
    commands_topic,
    encode_header,
    encode_headers,
    encode_name,
    size_of,
)
from .partition import DecidedBatch

#: The first headers of every event, and the name of the next one.
_FIRST = encode_header("ce_specversion", b"1.0") + encode_header("content-type", b"application/json") + encode_name("ce_source")
#: Number of headers of an event without a task name and a trace context.
_HEADERS = 9
_SUBJECT, _ID, _SEQUENCE = encode_name("ce_subject"), encode_name("ce_id"), encode_name("ce_sequence")
#: Header for the type and the name of the next header, header for severity, and schema, by the struct of the event.
_ABOUT = {
    row.data: (
        encode_header("ce_type", row.type.encode()) + _ID,
        encode_header("ce_severitynumber", b"%d" % row.severity),
        schema_of(row.type),
    )
    for row in TYPE_OF_DATA.values()
}
_COMMAND_TYPES = {struct: ("ce_type", name.encode()) for name, struct in COMMANDS.items()}
_PLAIN = pattern(r"[A-Za-z0-9._~-]*\Z").match
_PLAIN_PATH = pattern(r"[A-Za-z0-9._~/-]*\Z").match
_encoder = json.Encoder()

#: Size of the header of a record batch (https://kafka.apache.org/documentation/#recordbatch).
_BATCH_OVERHEAD = 61
#: Values up to this size fit into a record without an exact check, since headers are bounded.
_CERTAINLY_FITS = BATCH_BYTES_MAX // 2

#: Entities whose common headers are kept: about as many as have events in ten batches under load, in 3 MiB (with the longest ids
#: 11 MiB).
_KEPT = 4096

Outputs = dict[TopicPartition, list[Record]]


def encode(batch: DecidedBatch, partition: int) -> Outputs:
    """The records of `batch` of engine partition `partition`, in write order: first those for which workers and clients wait."""
    outputs: Outputs = {}
    timestamp_ms = batch.now_us // 1000
    for command in batch.commands:
        headers = _headers_of_command(type(command.data), command.worker)
        record = Record(command.key.encode(), _encoder.encode(command.data), headers, timestamp_ms)
        outputs.setdefault(_inbox(command.pool, command.inbox), []).append(record)
    for reply in batch.replies:
        record = Record(reply.token, _encoder.encode(reply.data), _headers_of_reply(reply.data.kind), timestamp_ms)
        outputs.setdefault(_place(REPLIES, reply.partition), []).append(record)
    for home, original in batch.forwards:
        given = {name: header for name, header in original.headers if header is not None}
        origin = ("hub-origin", f"{partition}/{original.offset}".encode())
        record = Record(
            original.key, original.value, (*given.items(), origin), timestamp_ms
        )  # the producer's timestamp may be too old
        outputs.setdefault(_place(INTAKE, home), []).append(record)
    if batch.events:
        outputs[_place(EVENTS, partition)] = encode_events(batch.events, batch.epoch, batch.now_us)
    if batch.rows:
        outputs[_place(STATE, partition)] = [Record(key, value, (), timestamp_ms) for key, value in batch.rows]
    return outputs


@lru_cache(maxsize=1024)
def _headers_of_command(kind: type, worker: str) -> EncodedHeaders:
    return EncodedHeaders(encode_headers((("worker", worker.encode()), _COMMAND_TYPES[kind])))


@lru_cache(maxsize=64)
def _headers_of_reply(kind: str) -> EncodedHeaders:
    return EncodedHeaders(encode_headers((("ce_type", f"reply.{kind}".encode()),)))


@lru_cache(maxsize=1024)
def _place(topic: str, partition: int) -> TopicPartition:
    return TopicPartition(topic, partition)


@lru_cache(maxsize=1024)
def _inbox(pool: str, inbox: int) -> TopicPartition:
    return TopicPartition(commands_topic(pool), inbox)


def check_fits(outputs: Outputs) -> None:
    """Raises RecordTooLarge if a record exceeds the limit even if it is written alone."""
    for place, records in outputs.items():
        for record in records:
            if len(record.value or b"") > _CERTAINLY_FITS and (size := size_of(record) + _BATCH_OVERHEAD) > BATCH_BYTES_MAX:
                raise RecordTooLarge(place.topic, size, BATCH_BYTES_MAX)


def encode_events(events: list[EmittedEvent], epoch: int, now_us: int) -> list[Record]:
    """The records of `events`, decided at time `now_us` by the owner with `epoch`."""
    timestamp_ms = now_us // 1000
    time, lengths = encode_header("ce_time", text_of(now_us).encode()) + _SEQUENCE, VARINTS
    records = []
    for event in events:
        src, data, root = event.src, event.data, event.root
        entity, key, first = _common(event.kind, event.subject, event.namespace, event.taskname, root, event.traceparent)
        kind, severity, schema = _ABOUT[type(data)]
        body = EventBody(
            entity=entity,
            sequence=event.sequence,
            run=event.run,
            src=src,
            epoch=epoch,
            rootid=root,
            correlationid=event.correlation or root,
            causationid=event.cause,
            dataschema=schema,
            from_=event.from_state,
            to=event.to_state,
            data=data,
        )
        provenance, sequence = src.encode(), b"%010d" % event.sequence
        headers = b"".join((first, kind, lengths[len(provenance)], provenance, time, lengths[len(sequence)], sequence, severity))
        records.append(Record(key, _encoder.encode(body), EncodedHeaders(headers), timestamp_ms))
    return records


@lru_cache(maxsize=_KEPT)
def _common(
    kind: str, subject: str, namespace: str | None, taskname: str | None, root: str | None, traceparent: str | None
) -> tuple[str, bytes, bytes]:
    """What all events of an entity have in common: its name, the key of their records, and the number of their headers with the
    headers whose values are equal."""
    entity = f"{kind}/{subject}"
    prefix, number, named = _named(namespace, taskname, traceparent is not None)
    source = prefix + entity.encode() if prefix and _PLAIN_PATH(subject) else source_of(namespace, entity).encode()
    raw, lengths = subject.encode(), VARINTS
    headers = b"".join((number, _FIRST, lengths[len(source)], source, _SUBJECT, lengths[len(raw)], raw, named))
    if traceparent is not None:
        headers += encode_header("ce_traceparent", traceparent.encode()) + encode_header("traceparent", traceparent.encode())
    return entity, (root or subject).encode(), headers


@lru_cache(maxsize=1024)
def _named(namespace: str | None, taskname: str | None, traced: bool) -> tuple[bytes, bytes, bytes]:
    """What the events of all tasks of one name have in common: the beginning of `ce_source`, which is empty if the namespace
    must be quoted, the number of headers, and those of the name. `traced`: the events have a trace context."""
    prefix = f"/hub/{namespace or '-'}/".encode() if _PLAIN(namespace or "") else b""
    names = {} if taskname is None else {"ce_taskname": taskname, "ce_namespace": namespace or ""}
    number = VARINTS[_HEADERS + len(names) + 2 * traced]
    return prefix, number, b"".join(encode_header(name, text.encode()) for name, text in names.items())
