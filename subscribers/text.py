"""Formats an event as text: one line without control characters.

Used by the console, the command line, and every subscriber whose target shows text.
"""

from typing import Any

from msgspec import Struct

from schemas import one_line

from .api import exception_of

TEXT_CHARACTERS_MAX = 160
_ENDS = ("completed", "failed", "cancelled", "skipped", "expired")
_FIELDS = (
    ("summary", "{}"),
    ("use", "plugin {}"),
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
    ("failing_seconds", "failed for {:.1f} s"),
    ("until", "until {}"),
    ("by", "by {}"),
    ("ran_seconds", "ran {:.3f} s"),
    ("start_after", "at {}"),
    ("unmet", "{} to wait for"),
    ("count", "count {}"),
    ("queue", "queue {}"),
    ("host", "host {}"),
    ("slots", "{} slots"),
    ("live_tasks", "{} live tasks"),
    ("partitions", "of {} partitions"),
)
"""Fields in order of importance, and their format."""


def summary_of(data: Struct, *, characters_max: int | None = TEXT_CHARACTERS_MAX) -> str:
    """The most important data of an event: the error if there is one, progress of a workflow, other fields. Empty if there is
    nothing to say. Each text in it has at most `characters_max` characters (None: all)."""
    parts = [_cut(_error(data), characters_max), _steps(data)]
    for name, form in _FIELDS:
        value = getattr(data, name, None)
        if value not in (None, "", [], {}) and (value or name == "percent"):
            parts.append(form.format(_cut(value, characters_max) if isinstance(value, str) else value))
    return one_line(", ".join(part for part in parts if part))


def _error(data: Any) -> str:
    found = exception_of(data)
    if found is not None:
        return f"{found.type}: {found.message}"
    error = getattr(data, "error", None)
    return error if isinstance(error, str) else ""


def _steps(data: Any) -> str:
    total = getattr(data, "steps_total", 0)
    ended = sum(getattr(data, name, 0) for name in _ENDS)
    return f"{ended} of {total} steps ended" if ended else f"{total} steps" if total else ""


def short_id(entity_id: str) -> str:
    """Eight characters that distinguish ids: the end of a UUID (whose beginning is a timestamp), the beginning of other ids."""
    is_uuid = len(entity_id) == 36 and entity_id.count("-") == 4
    return entity_id[-8:] if is_uuid else f"{entity_id[:8]:<8}"


def _cut(text: str, characters_max: int | None) -> str:
    return text if characters_max is None or len(text) <= characters_max else text[: characters_max - 1] + "…"
