"""Rows share what is equal in many of them, and are encoded as before."""

import gc

from msgspec import json

from hub.core import TaskRow, encode_row, share_values

ROW = (
    b'{"name":"charge","version":"2","run":7,"state":"scheduled","sequence":2,"namespace":"shop","queue":"slow",'
    b'"created_at":"2026-01-01T00:00:00Z","scheduled_at":"2026-01-01T00:00:00Z","timers":{"start":5}}'
)


def restored(value: bytes) -> TaskRow:
    return share_values(json.decode(value, type=TaskRow))


def test_two_restored_rows_share_their_equal_values() -> None:
    one, other = restored(ROW), restored(ROW)
    for name in ("name", "version", "state", "namespace", "queue", "tags", "depends_on"):
        assert getattr(one, name) is getattr(other, name), name
    assert one.scheduled_at is one.created_at


def test_a_restored_row_is_encoded_to_the_same_bytes() -> None:
    for value in (ROW, ROW[:-1] + b',"tags":{"a":"b"},"depends_on":[{"task":"t"}]}', b'{"name":"x","run":1}'):
        row = json.decode(value, type=TaskRow)
        before = encode_row(b"task/t", row)
        assert encode_row(b"task/t", share_values(row)) == before


def test_the_garbage_collector_does_not_visit_rows() -> None:
    row = restored(ROW)
    assert not gc.is_tracked(row)
    assert not gc.is_tracked(row.timers)
