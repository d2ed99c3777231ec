"""An event as text: for every type one plain line, with what matters of it."""

from typing import Any

import pytest

from hub.testing import make_event
from schemas import CATALOGUE, one_line
from subscribers.text import TEXT_CHARACTERS_MAX, short_id, summary_of

ERROR = {"type": "CardError", "message": "declared stolen"}


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_every_event_has_one_line(event_type: str) -> None:
    assert summary_of(make_event(event_type).data).isprintable()


@pytest.mark.parametrize(
    ("event_type", "data", "line"),
    [
        ("task.failed", {"kind": "exhausted", "error": ERROR}, "CardError: declared stolen, exhausted"),
        ("task.retry_scheduled", {"error": ERROR, "delay": 2.5}, "CardError: declared stolen, retry in 2.5 s"),
        (
            "attempt.failed",
            {"error": ERROR, "worker": "w1", "ran_seconds": 0.25},
            "CardError: declared stolen, on w1, ran 0.250 s",
        ),
        ("task.progressed", {"percent": 0, "message": "packing"}, "0 %, packing"),
        ("task.blocked", {"unmet": 2}, "2 to wait for"),
        ("workflow.started", {"steps_total": 3}, "3 steps"),
        ("workflow.progressed", {"steps_total": 5, "planned": 5, "completed": 2, "failed": 1}, "3 of 5 steps ended"),
        ("workflow.steps_ready", {"count": 3}, "count 3"),
        ("engine.stopped", {"input_offset": 7}, ""),
    ],
)
def test_the_most_important_fields_are_told(event_type: str, data: dict[str, Any], line: str) -> None:
    found = summary_of(make_event(event_type, **data).data)
    assert found == line or (line and found.startswith(f"{line}, "))


def test_foreign_text_is_cut_and_cannot_control_a_terminal() -> None:
    error = {"type": "E", "message": "a\nb\x1b[2J" + "x" * 1000}
    data = make_event("task.retry_scheduled", error=error, delay=2.5).data
    line = summary_of(data)
    left = TEXT_CHARACTERS_MAX - len("E: a\nb\x1b[2J") - len("…")
    assert line.startswith(r"E: a\nb\x1b[2J" + "x" * left + "…, retry in 2.5 s")
    assert "x" * 1000 in summary_of(data, characters_max=None)


def test_what_cannot_be_printed_is_escaped() -> None:
    assert one_line("ordinary: ü") == "ordinary: ü"
    assert one_line("a\tb\u202ec") == r"a\tb\u202ec"


def test_short_ids_distinguish_ids() -> None:
    assert short_id("019a7f00-1234-7abc-8def-0123456789ab") == "456789ab"
    assert short_id("order-17-of-may") == "order-17"
    assert short_id("a") == "a       "
