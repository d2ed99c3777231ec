"""The console subscriber: prints one line per event, as text, or as JSON for programs.

    12:00:03.120  task.failed          charge     9f2c41aa  #2  running -> failed     CardError: declared stolen

A line of text has local time, type, task name, short id, attempt, states, and the most important fields of this event type. It is
coloured by severity if the stream is a terminal and NO_COLOR is not set.
"""

import os
import sys
from datetime import datetime
from typing import Literal, TextIO

from msgspec import json

from schemas import Event, one_line

from .api import Delivery, Drop, EventTypes, Meta, Subscriber, SubscriberContext, SubscriberSettings, on
from .text import short_id, summary_of

_COLOURS = ((17, "\x1b[31m"), (13, "\x1b[33m"), (9, ""), (0, "\x1b[2m"))
_GREEN, _RESET = "\x1b[32m", "\x1b[0m"
_LATE = "(again) "


class ConsoleSettings(SubscriberSettings):
    """`format`: lines of text ("text") or one CloudEvent per line ("json"). `types`: event types, `*` matches any text. `stream`:
    stdout or stderr."""

    format: Literal["text", "json"] = "text"
    types: EventTypes = ("*",)
    stream: Literal["stdout", "stderr"] = "stdout"


class Console(Subscriber[ConsoleSettings]):
    """Writes all events whose type matches `types` to a standard stream."""

    name = "console"
    delivery = Delivery(order="partition", on_error="skip")

    async def open(self, ctx: SubscriberContext) -> None:
        """Select the stream; colours are used only on a terminal."""
        self.out: TextIO = sys.stderr if self.settings.stream == "stderr" else sys.stdout
        self.colour = self.out.isatty() and "NO_COLOR" not in os.environ

    @classmethod
    def event_types(cls, settings: ConsoleSettings) -> tuple[str, ...]:
        """The types in the settings."""
        return settings.types

    @on("*")
    async def show(self, event: Event, meta: Meta) -> None:
        """Write one line."""
        line = json_line(event) if self.settings.format == "json" else text_line(event, meta, colour=self.colour)
        try:
            self.out.write(line + "\n")
            self.out.flush()
        except BrokenPipeError:
            raise Drop("the output stream was closed by its reader") from None


def json_line(event: Event) -> str:
    """The event as a structured CloudEvent on one line."""
    return json.encode(event.as_dict()).decode()


def text_line(event: Event, meta: Meta, *, colour: bool = False) -> str:
    """The event as a line of text."""
    data = event.data
    attempt = getattr(data, "attempt", 0)
    states = f"{event.from_state or 'new'} -> {event.to_state}" if event.to_state else ""
    parts = [
        _clock(event.time),
        f"{event.type:<23}",
        f"{event.taskname or '-':<20}",
        short_id(event.subject),
        f"#{attempt}" if attempt else "  ",
        f"{states:<24}",
        ("" if meta.attempt == 1 else _LATE) + summary_of(data),
    ]
    line = one_line("  ".join(parts)).rstrip()
    if not colour:
        return line
    tint = _GREEN if event.to_state == "completed" else next(code for least, code in _COLOURS if event.severitynumber >= least)
    return f"{tint}{line}{_RESET}" if tint else line


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return time
