"""How the console displays events."""

import io
import json
from typing import Any

import pytest
from pydantic import ValidationError

from hub.delivery import load
from hub.testing import make_event
from schemas import CATALOGUE, Event
from subscribers import Meta, SubscriberContext
from subscribers.console import Console, ConsoleSettings, text_line

TASK = "019a7f00-1234-7abc-8def-0123456789ab"


def event_of(event_type: str, states: tuple[str | None, str | None] = (None, None), **data: Any) -> tuple[Event, Meta]:
    """An event of the task, as a subscriber is handed it."""
    event = make_event(event_type, envelope={"subject": TASK, "from_state": states[0], "to_state": states[1]}, **data)
    return event, Meta(event, 0, 7)


def failed() -> tuple[Event, Meta]:
    """A failed task."""
    error = {"type": "CardError", "message": "declared\nstolen\x1b[2J"}
    return event_of("task.failed", ("running", "failed"), attempt=2, kind="exhausted", error=error)


def test_a_line_says_who_what_and_why() -> None:
    line = text_line(*failed())
    assert "task.failed" in line
    assert "charge" in line
    assert "456789ab" in line
    assert "#2" in line
    assert "running -> failed" in line
    assert r"CardError: declared\nstolen\x1b[2J, exhausted" in line, "and no control character of a task reaches the terminal"


def test_progress_and_redelivery_are_told() -> None:
    event, meta = event_of("task.progressed", percent=40, message="packing")
    assert text_line(event, meta).endswith("40 %, packing")
    meta.attempt = 2
    assert "(again)" in text_line(event, meta)


def test_colour_follows_severity_and_success() -> None:
    done = event_of("task.completed", ("running", "completed"), attempt=2)
    assert text_line(*failed(), colour=True).startswith("\x1b[31m")
    assert text_line(*done, colour=True).startswith("\x1b[32m")
    assert text_line(*event_of("task.progressed"), colour=True).startswith("\x1b[2m")
    assert "\x1b" not in text_line(*done)


@pytest.mark.parametrize("format", ["text", "json"])
async def test_one_event_is_one_line_on_the_stream(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    console = Console(ConsoleSettings.model_validate({"format": format, "stream": "stderr"}))
    import logging

    await console.open(SubscriberContext("console", logging.getLogger("test")))
    await console.show(*failed())
    (line,) = out.getvalue().splitlines()
    if format == "json":
        event = json.loads(line)
        assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "task.failed", TASK)
        assert event["data"]["error"]["type"] == "CardError"
        assert (event["from"], event["to"]) == ("running", "failed")


def test_types_are_checked_and_narrow_what_is_taken() -> None:
    assert Console.event_types(ConsoleSettings(types=("task.*",))) == ("task.*",)
    with pytest.raises(ValidationError, match="is not an event type"):
        ConsoleSettings(types=("task.finished",))


def test_it_takes_every_type_there_is_and_is_found_by_its_name() -> None:
    assert load("console") is Console
    assert all(Console.handler_of(one) for one in CATALOGUE)
