"""Records that no client of ours sends: legal for a broker, wrong in every way that one seed can think of. Small and fast, for
schedules; the exhaustive strategy over whole records is another."""

import random
from typing import Any

import msgspec

from hub.kafka import Record

_ID = "hostile"
_ATTEMPT = {"task": _ID, "root": _ID, "attempt": 1, "dispatch": 1, "token": "0/1/2", "incarnation": "w", "number": 1}
_WORKER = {
    "incarnation": "stranger",
    "pool": "nowhere",
    "inbox": 3,
    "queues": ["default"],
    "definitions": [{"name": "a", "version": "1", "queue": "default"}],
    "slots": 1,
    "credit": 1,
}

#: A value of each report that would be right.
REPORTS: dict[str, dict[str, Any]] = {
    "task.created": {"name": "a", "id": _ID, "args": {"n": 1}},
    "task.cancel": {"id": _ID, "root": _ID, "reason": "why not", "by": "me"},
    "task.await": {"id": _ID, "root": _ID, "wait": True},
    "attempt.started": _ATTEMPT,
    "attempt.progressed": {**_ATTEMPT, "percent": 5.0, "message": "so far"},
    "attempt.completed": {**_ATTEMPT, "result": {"n": 1}},
    "attempt.failed": {**_ATTEMPT, "error": {"type": "E", "message": "no"}},
    "attempt.cancelled": _ATTEMPT,
    "attempt.released": _ATTEMPT,
    "definition.deprecate": {"name": "stranger", "version": "1", "reason": "why not", "by": "me"},
    "worker.registered": _WORKER,
    "worker.heartbeat": {**_WORKER, "holding": ["0/1/2"]},
    "worker.draining": _WORKER,
    "worker.stopped": _WORKER,
    "worker.lost": {"incarnation": "stranger", "reason": "gone"},
}

#: What a field may hold instead of what it should.
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 2**63, 1e308, -5e300, "", " ", "*", "\x00", "\u00fc" * 100, "n" * 300, "\x01" * 2_000, [], {}, [[[]]],
    {"a": {}}, {"task": "x", "on": "never"}, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", ["n"] * 300,
)  # fmt: skip

#: What a header may hold instead of what it should.
ODD_HEADERS: tuple[bytes | None, ...] = (
    None, b"", b"\x00", b"\xff\xfe", b"1.0", b"/", b"0/1", b"task.created", b"9:t", b"0:t", b"x" * 2_000, b"\x01" * 2_000,
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"0" * 55,
)  # fmt: skip

HEADERS = ("ce_specversion", "ce_type", "ce_source", "ce_id", "replyto", "hub-origin", "traceparent", "ce_traceparent")

HUGE_BYTES = 2_000_000


def hostile_record(chance: random.Random) -> Record:
    """A right report, spoilt in one to three places."""
    kind = chance.choice(sorted(REPORTS))
    fields = dict(REPORTS[kind])
    if chance.random() < 0.7:
        fields["id" if kind.startswith("task") else "reason"] = f"{_ID}-{chance.randrange(4)}"
    for _ in range(chance.randrange(3)):
        _spoil_field(chance, fields)
    headers: list[tuple[str, bytes | None]] = [("ce_specversion", b"1.0"), ("ce_type", kind.encode())]
    headers += [("ce_source", b"/stranger"), ("ce_id", b"e%d" % chance.randrange(9))]
    for _ in range(chance.randrange(3)):
        _spoil_header(chance, headers)
    key = chance.choice([None, b"", b"key", b"\xff\x00"])
    value: bytes | None = msgspec.json.encode(fields)
    if chance.random() < 0.2:
        value = _spoil_value(chance, kind, fields)
        if chance.random() < 0.5:
            headers = [("content-type", b"application/cloudevents+json")]
    return Record(key, value, headers, 0)


def _spoil_field(chance: random.Random, fields: dict[str, Any]) -> None:
    name = chance.choice([*fields, "unknown", "priority", "timeouts", "retry", "depends_on", "tasks", "root_id"])
    fields[name] = "\x01" * HUGE_BYTES if chance.random() < 0.01 else chance.choice(ODD_VALUES)
    if chance.random() < 0.2:
        del fields[name]


def _spoil_header(chance: random.Random, headers: list[tuple[str, bytes | None]]) -> None:
    name = chance.choice(
        ["ce_specversion", "ce_type", "ce_source", "ce_id", "replyto", "hub-origin", "traceparent", "ce_traceparent"]
    )
    headers[:] = [header for header in headers if header[0] != name or chance.random() < 0.3]
    if chance.random() < 0.8:
        headers.append((name, b"\x01" * HUGE_BYTES if chance.random() < 0.01 else chance.choice(ODD_HEADERS)))


def _spoil_value(chance: random.Random, kind: str, fields: dict[str, Any]) -> bytes | None:
    event = {"specversion": "1.0", "type": kind, "source": "/stranger", "id": "1", "data": fields}
    whole = msgspec.json.encode(event)
    return chance.choice(
        [None, b"", b"null", b"[" * 3_000, b'{"a": "\xff"}', chance.randbytes(20), whole, whole[: chance.randrange(len(whole))]]
    )
