"""Text for people and JSON for machines.

Rule: decoration (colours, boxes, moving lines) only on a terminal, and no colours where NO_COLOR is set; anything else reads
as plain lines, one thing a line, nothing cut off. Tables are in `tables.py`.
"""

import shutil
import sys
from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

    from schemas import Event

#: Characters of an event's id in a message about it.
ID_CHARACTERS_MAX = 64

#: Columns and lines of a terminal that does not say how large it is.
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
    """Whether somebody looks at what is printed."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Columns of the terminal; 80 where it does not say."""
    return shutil.get_terminal_size(UNKNOWN_SIZE).columns


def make_console() -> "Console":
    """A console on stdout; it heeds NO_COLOR and decorates nothing where there is no terminal."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    print(msgspec.json.format(encode_json(value), indent=2).decode())


def print_json_line(value: Any) -> None:
    """One line of a stream of JSON documents, written at once."""
    print(encode_json(value).decode(), flush=True)


def encode_json(value: Any) -> bytes:
    """JSON of plain values and of msgspec structs."""
    return msgspec.json.encode(value)


def print_fields(fields: Iterable[tuple[str, Any]], *, wrapped: bool = False) -> None:
    """One line a field, name first; fields that are None or empty are left out. `wrapped`: the values are text, which is broken
    where a terminal ends."""
    there = [(name, cell_text(value)) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in there), default=0)
    for name, value in there:
        lines = wrap(value, max(20, terminal_width() - width - 2)) if wrapped and on_terminal() else [value]
        print(f"{name.ljust(width)}  " + f"\n{' ' * (width + 2)}".join(lines))


def cell_text(value: Any) -> str:
    """A value as it is shown in a table: one line, empty for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}"
    return one_line(str(value))


def one_line(text: str) -> str:
    """Text that somebody else wrote, with what is not a printable character shown as its escape: it can't move the cursor, colour
    the terminal or break a line in two."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def duration(seconds: float | None) -> str:
    """A length of time in the unit that reads best; empty for None."""
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
    """A number of bytes in the unit that reads best, with three digits or more."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} bytes" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def clock(time: str) -> str:
    """The time of day, to the millisecond, of an RFC 3339 point in time."""
    _, _, rest = time.partition("T")
    return rest.rstrip("Z")[:12]


def event_line(event: "Event") -> str:
    """An event as one plain line: when, what, of whom, from which state to which, and what matters of its data."""
    change = f"{event.from_state or ''}→{event.to_state}" if event.to_state is not None else ""
    entity = f"{event.entity} #{event.sequence}"
    parts = (clock(event.time), event.type.ljust(24), entity, event.taskname, change, detail_of(event))
    return one_line("  ".join(part for part in parts if part))


def print_event(event: "Event", *, as_json: bool) -> None:
    """An event as a line of text or of JSON (a structured CloudEvent), written at once. One whose data cannot be written as JSON
    is reported on stderr instead."""
    from schemas import MalformedEvent

    if not as_json:
        print(event_line(event), flush=True)
        return
    try:
        print_json_line(event.as_dict())
    except MalformedEvent as error:
        print(f"event {one_line(event.id)[:ID_CHARACTERS_MAX]} is skipped: {error}", file=sys.stderr, flush=True)


_DETAILS = ("code", "reason", "message", "worker", "next_retry_at", "start_after", "unmet", "count", "silent_seconds")
_COUNTERS = ("completed", "failed", "cancelled", "skipped", "expired")


def detail_of(event: "Event") -> str:
    """What matters of an event's data, in few words."""
    data, parts = event.data, []
    attempt = getattr(data, "attempt", 0)
    if attempt:
        parts.append(f"attempt {attempt}")
    percent = getattr(data, "percent", None)
    if percent is not None:
        parts.append(f"{percent:g} %")
    total = getattr(data, "steps_total", 0)
    if total:
        parts.append(f"{sum(getattr(data, counter, 0) for counter in _COUNTERS)} of {total} steps ended")
    error = getattr(data, "error", None)
    if error is not None:
        parts.append(f"{error.type}: {error.message}")
    parts += [f"{name} {value}" for name in _DETAILS if (value := getattr(data, name, None)) not in (None, "", 0)]
    return one_line(", ".join(parts))
