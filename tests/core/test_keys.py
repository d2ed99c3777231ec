"""The codec of `hub.state`: encoded rows can be decoded again."""

from typing import Any

import pytest
from msgspec import Raw, json

from hub.core import (
    INTAKE_KEY,
    META_KEY,
    DefinitionRow,
    EndedRow,
    EngineRow,
    IntakeRow,
    MetaRow,
    TaskRow,
    WorkerRow,
    decode_row,
    encode_row,
    key_of,
    kind_of,
)
from hub.core.rows.task import Cancel
from schemas import ABSENT, Definition, StepSpec

ROWS: list[tuple[bytes, str, str, Any]] = [
    (key_of("task", "a/b"), "task", "a/b", TaskRow(run=7, name="charge", state="ready", created_at="2026-01-01T00:00:00Z")),
    (key_of("task", "é"), "task", "é", EndedRow(ended="failed", run=7, sequence=3, name="a", until_us=9, finished_at="")),
    (key_of("args", "t"), "args", "t", Raw(b'{"a": 1}')),
    (key_of("plan", "t"), "plan", "t", {"first": StepSpec(name="a"), "second": StepSpec(name="b", depends_on=["first"])}),
    (key_of("worker", "w"), "worker", "w", WorkerRow(run=3, state="active", definitions=["*/a@1"])),
    (
        key_of("definition", "0/*/a@1"),
        "definition",
        "0/*/a@1",
        DefinitionRow(definition=Definition(name="a", timeout_seconds=3.0), state="active", sequence=1),
    ),
    (key_of("engine", "0"), "engine", "0", EngineRow(sequence=2, storage="low")),
    (META_KEY, "!meta", "", MetaRow(offset=3, epoch=1, now_us=5, partitions=2)),
    (INTAKE_KEY, "!intake", "", IntakeRow(marks=[(1, 2), (3, 4)])),
]


@pytest.mark.parametrize(
    ("key", "kind", "name", "row"), ROWS, ids=lambda value: value.decode() if isinstance(value, bytes) else ""
)
def test_a_row_is_read_back_as_it_was_written(key: bytes, kind: str, name: str, row: Any) -> None:
    written, value = encode_row(key, row)
    assert (written, kind_of(written)) == (key, kind)
    entry = decode_row(written, value)
    assert entry is not None
    assert (entry.kind, entry.id, type(entry.row)) == (kind, name, type(row))
    assert json.encode(entry.row) == json.encode(row)
    assert decode_row(written, None) == (kind, name, None), "a tombstone"


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (
            b'{"ended": "completed", "run": 7, "sequence": 3, "name": "a", "until_us": 9, "finished_at": ""}',
            {"keyed": False, "result": ABSENT, "result_omitted": False},
        ),
        (b'{"name": "a", "run": 7, "cancel": {}}', {"unresolved": False, "cancel": Cancel(reason="", by=None, timed_out=False)}),
    ],
)
def test_what_the_row_of_a_task_does_not_say_means_what_it_meant_in_earlier_releases(value: bytes, meant: dict[str, Any]) -> None:
    entry = decode_row(key_of("task", "t"), value)
    assert entry is not None
    assert {field: getattr(entry.row, field) for field in meant} == meant


def test_rows_of_unknown_kinds_are_nobodys() -> None:
    assert decode_row(b"queue/default", b"{}") is None
    assert decode_row(b"\xff", b"nonsense") is None
    assert kind_of(b"\xff/x") == "\ufffd"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"task/t", b"{"),
        (b"task/\xff", b"{}"),
        (b"worker/w", b"[]"),
        (b"definition/0/*/a@1", b"{}"),
        (META_KEY, b"{}"),
        (b"plan/t", b"null"),
        (b"task/t", b"[" * 9_999),
    ],
)
def test_what_is_not_a_row_is_an_error(key: bytes, value: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        decode_row(key, value)
