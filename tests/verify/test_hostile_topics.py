"""The check ends with a report for arbitrary records on any topic; foreign records on the intake are not a finding."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.verify import check
from schemas import CATALOGUE, COMMANDS, REPORTS, TaskReply
from tests.records import PATIENT, Example, WholeRecord, example_of, hostile_records

from .log_builder import INBOX, LogBuilder
from .scenarios import good_log

HEADERS = {
    "ce_specversion": b"1.0",
    "ce_source": b"/s",
    "ce_id": b"0/1/0",
    "ce_subject": b"t",
    "ce_time": b"2026-01-01T00:00:00Z",
}
BODY = {"entity": "task/t", "sequence": 1, "run": 1, "src": "0/1/0", "epoch": 1, "rootid": "t"}


def records(examples: Mapping[str, Sequence[Example]]) -> st.SearchStrategy[list[WholeRecord]]:
    made = hostile_records(examples, structured_mode=True, huge_bytes_max=5_000, shrinkable=False)
    return st.lists(made, min_size=1, max_size=8)


def examples_of(structs: dict[str, Any], **headers: bytes) -> dict[str, Sequence[Example]]:
    return {kind: [Example(example_of(struct), {**HEADERS, **headers}, b"t")] for kind, struct in structs.items()}


EVENTS = {kind: [Example({**BODY, "data": example_of(row.data)}, HEADERS, b"t")] for kind, row in CATALOGUE.items()}
ROW = Example({"run": 1, "sequence": 1, "state": "ready", "name": "a"}, {}, b"task/t")
META = Example({"offset": 1, "epoch": 1}, {}, b"!meta")


def stored(found: list[WholeRecord], begin: int = 0) -> list[Any]:
    return [record.stored(begin + offset) for offset, record in enumerate(found)]


FEW = settings(PATIENT, max_examples=60)


def good() -> LogBuilder:
    return good_log(1)


@FEW
@given(records(EVENTS))
def test_on_hub_events(found: list[WholeRecord]) -> None:
    log = good()
    history: Any = log.history()
    end = history.events[0][-1].offset + 2
    history.events = {0: [*history.events[0], *stored(found, end)]}
    assert not check(history).ok


@FEW
@given(records({"row": [ROW, META, ROW._replace(key=b"engine/0"), ROW._replace(key=b"worker/w1")]}))
def test_on_hub_state(found: list[WholeRecord]) -> None:
    log = good()
    rows = {**log.state()[0], **{record.key: record.value for record in found if record.key is not None}}
    check(log.history(state={0: rows}))


@FEW
@given(records(examples_of(dict(COMMANDS), worker=b"w1")))
def test_on_a_commands_topic(found: list[WholeRecord]) -> None:
    log = good()
    history: Any = log.history()
    known = history.commands["hub.commands.default"][INBOX]
    history.commands = {"hub.commands.default": {INBOX: [*known, *stored(found, known[-1].offset + 1)]}}
    check(history)


@FEW
@given(records(examples_of({"reply.ended": TaskReply})))
def test_on_hub_replies(found: list[WholeRecord]) -> None:
    check(good().history(replies={0: stored(found)}))


@FEW
@given(records(examples_of(dict(REPORTS), replyto=b"0:t")))
def test_on_hub_intake(found: list[WholeRecord]) -> None:
    """Not yet decided, they are nobody's fault."""
    log = good()
    history: Any = log.history()
    history.intake = {0: [*history.intake[0], *stored(found, history.intake[0][-1].offset + 1)]}
    report = check(history)
    assert report.ok, report.render()
