"""An event in words: for every type one plain line, with what matters of it."""

from typing import Any

import pytest

from hub.testing import make_event
from schemas import CATALOGUE
from subscribers.text import DETAIL_CHARACTERS_MAX, details_of, one_line, short_id


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_every_event_has_one_line(event_type: str) -> None:
    line = details_of(make_event(event_type).data)
    assert line.isprintable()
    assert len(line) <= DETAIL_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("event_type", "data", "line"),
    [
        (
            "task.failed",
            {"kind": "exhausted", "error": {"type": "CardError", "message": "declared stolen"}},
            "CardError: declared stolen",
        ),
        ("task.progressed", {"percent": 0, "message": "packing"}, "0 %, packing"),
        ("task.blocked", {"unmet": 2}, "2 to wait for"),
        ("workflow.started", {"steps_total": 3}, "3 steps"),
        ("workflow.progressed", {"steps_total": 5, "planned": 5, "completed": 2, "failed": 1}, "3 of 5 steps ended"),
        ("engine.stopped", {"input_offset": 7}, ""),
    ],
)
def test_the_most_important_fields_are_told(event_type: str, data: dict[str, Any], line: str) -> None:
    assert details_of(make_event(event_type, **data).data) == line


def test_foreign_text_is_cut_and_cannot_control_a_terminal() -> None:
    error = {"type": "E", "message": "a\nb\x1b[2J" + "x" * 1000}
    line = details_of(make_event("task.failed", error=error).data)
    assert line.startswith(r"E: a\nb\x1b[2Jxxx")
    assert line.endswith("x…")
    assert len(line) == DETAIL_CHARACTERS_MAX


def test_what_cannot_be_printed_is_escaped() -> None:
    assert one_line("ordinary: ü") == "ordinary: ü"
    assert one_line("a\tb\u202ec") == r"a\tb\u202ec"


def test_short_ids_distinguish_ids() -> None:
    assert short_id("019a7f00-1234-7abc-8def-0123456789ab") == "456789ab"
    assert short_id("order-17-of-may") == "order-17"
    assert short_id("a") == "a       "
