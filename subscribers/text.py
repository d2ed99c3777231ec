"""An event in words, for people: one plain line without control characters.

Used by the console, the command line, and every subscriber whose target shows text.
"""

from typing import Any

from msgspec import Struct

DETAIL_CHARACTERS_MAX = 160
_ENDS = ("completed", "failed", "cancelled", "skipped", "expired")
_TELLING = (
    ("code", "{}"),
    ("percent", "{:g} %"),
    ("message", "{}"),
    ("reason", "{}"),
    ("kind", "{}"),
    ("worker", "on {}"),
    ("dependency", "because of {}"),
    ("delay", "retry in {:.1f} s"),
    ("timeout_seconds", "after {:g} s"),
    ("silent_seconds", "silent for {:.1f} s"),
    ("ran_seconds", "ran {:.3f} s"),
    ("start_after", "at {}"),
    ("unmet", "{} to wait for"),
    ("queue", "queue {}"),
    ("host", "host {}"),
    ("slots", "{} slots"),
    ("live_tasks", "{} live tasks"),
    ("partitions", "of {} partitions"),
)
"""Fields worth telling, by importance, and how."""


def details_of(data: Struct) -> str:
    """What the data of an event say beside its type: the error if there is one, else the most important fields. At most
    DETAIL_CHARACTERS_MAX characters; empty if there is nothing to tell."""
    error = getattr(data, "error", None)
    if error is not None:
        return _cut(one_line(f"{error.type}: {error.message}"))
    told = [_steps(data)]
    for name, form in _TELLING:
        value = getattr(data, name, None)
        if value not in (None, "", [], {}) and (value or name == "percent"):
            told.append(form.format(value))
    return _cut(one_line(", ".join(part for part in told if part)))


def _steps(data: Any) -> str:
    total = getattr(data, "steps_total", 0)
    ended = sum(getattr(data, name, 0) for name in _ENDS)
    return f"{ended} of {total} steps ended" if ended else f"{total} steps" if total else ""


def short_id(entity_id: str) -> str:
    """Eight characters that distinguish ids: the end of a UUID (whose beginning is a timestamp), the beginning of other ids."""
    is_uuid = len(entity_id) == 36 and entity_id.count("-") == 4
    return entity_id[-8:] if is_uuid else f"{entity_id[:8]:<8}"


def one_line(text: str) -> str:
    """Foreign text with all non-printable characters escaped, so that it cannot move the cursor, colour a terminal or break the
    line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS_MAX else text[: DETAIL_CHARACTERS_MAX - 1] + "…"
