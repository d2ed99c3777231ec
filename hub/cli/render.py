"""Text for people and JSON for programs.

Rule: decoration (colours, boxes, moving lines) only on a terminal, and no colours if NO_COLOR is set; other output is plain
lines, one item per line, not truncated. Tables are in `tables.py`.
"""

import shutil
import sys
from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import msgspec

from schemas import Event, MalformedEvent, one_line

if TYPE_CHECKING:
    from rich.console import Console

#: Maximum length of an event's id in a message (characters).
ID_CHARACTERS_MAX = 64

#: Columns and lines of a terminal of unknown size.
UNKNOWN_SIZE = (80, 24)

STATE_STYLES = {
    "scheduled": "cyan",
    "blocked": "dim",
    "ready": "cyan",
    "dispatched": "blue",
    "running": "bold blue",
    "retrying": "yellow",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "expired": "red",
    "skipped": "dim",
}

STATE_MARKS = {
    "scheduled": "◷",
    "blocked": "·",
    "ready": "○",
    "dispatched": "○",
    "running": "●",
    "retrying": "↻",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "expired": "⊘",
    "skipped": "-",
}


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Columns of the terminal; 80 if unknown."""
    return shutil.get_terminal_size(UNKNOWN_SIZE).columns


def make_console() -> "Console":
    """A console on stdout; it respects NO_COLOR, and prints plain text if stdout is not a terminal."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    print(msgspec.json.format(encode_json(value), indent=2).decode())


def print_json_line(value: Any) -> None:
    """Print one line of a stream of JSON documents, and flush it."""
    print(encode_json(value).decode(), flush=True)


def encode_json(value: Any) -> bytes:
    """Encode plain values and msgspec structs as JSON."""
    return msgspec.json.encode(value)


def print_fields(fields: Iterable[tuple[str, Any]], *, wrapped: bool = False) -> None:
    """Print one line per field, the name first; fields that are None or empty are omitted. `wrapped`: the values are text,
    which is wrapped at the width of the terminal."""
    there = [(name, cell_text(value)) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in there), default=0)
    for name, value in there:
        lines = wrap(value, max(20, terminal_width() - width - 2)) if wrapped and on_terminal() else [value]
        print(f"{name.ljust(width)}  " + f"\n{' ' * (width + 2)}".join(lines))


def cell_text(value: Any) -> str:
    """A value as text for a table: one line, empty for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}"
    return one_line(str(value))


def duration(seconds: float | None) -> str:
    """A duration in a suitable unit, as text; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """A number of bytes in a suitable unit, as text."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def clock(time: str) -> str:
    """The time of day, to the millisecond, of an RFC 3339 timestamp."""
    _, _, rest = time.partition("T")
    return rest.rstrip("Z")[:12]


def event_line(event: Event) -> str:
    """An event as one plain line: time, type, entity, change of state, and the most important data."""
    change = f"{event.from_state or ''}→{event.to_state}" if event.to_state is not None else ""
    entity = f"{event.entity} #{event.sequence}"
    parts = (clock(event.time), event.type.ljust(24), entity, event.taskname, change, detail_of(event))
    return one_line("  ".join(part for part in parts if part))


def print_event(event: Event, *, as_json: bool) -> None:
    """Print an event as a line of text or JSON (a structured CloudEvent), and flush it. An event whose data cannot be written as
    JSON is reported to stderr instead."""
    if not as_json:
        print(event_line(event), flush=True)
        return
    try:
        print_json_line(event.as_dict())
    except MalformedEvent as error:
        print(f"Skipped event {one_line(event.id)[:ID_CHARACTERS_MAX]}: {error}", file=sys.stderr, flush=True)


def detail_of(event: Event) -> str:
    """The number of the attempt, and the most important data of an event, as short text."""
    from subscribers.text import summary_of  # here, because the package loads pydantic

    attempt = getattr(event.data, "attempt", 0)
    return ", ".join(
        part for part in (f"attempt {attempt}" if attempt else "", summary_of(event.data, characters_max=None)) if part
    )
