"""Which events a rule is about (`Match`), and the values in events by which it distinguishes alerts (`FIELDS`)."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct

from schemas import CATALOGUE, Event
from subscribers import error_of, result_of

ALERT_ORIGIN = "hub_origin"
"""Tag of the tasks that alerts submit; its value is ALERT."""
ALERT = "alert"
ALERT_TASK_PREFIX = "alert-run-"
"""How the ids of these tasks begin: events that have no tags are recognised by it."""

ValueOf = Callable[[Event], str | None]
Patterns = str | list[str]


def _of_data(name: str) -> ValueOf:
    def value(event: Event) -> str | None:
        found = getattr(event.data, name, None)
        return None if found is None else str(found)

    return value


def _error(event: Event) -> str | None:
    error = error_of(event)
    return None if error is None else error.type


FIELDS: Mapping[str, ValueOf] = MappingProxyType(
    {
        "type": lambda event: event.type,
        "namespace": lambda event: event.namespace,
        "task": lambda event: event.taskname,
        "queue": _of_data("queue"),
        "pool": _of_data("pool"),
        "host": _of_data("host"),
        "worker": _of_data("worker"),
        "error": _error,
        "result": result_of,
        "code": _of_data("code"),
        "subject": lambda event: event.subject,
        "root": lambda event: event.rootid or event.subject,
        "correlation": lambda event: event.correlationid,
    }
)
"""Values by name; None if an event has no such value. `tags.<name>` is a tag of the task, in its first and last events."""


def value_of(field: str) -> ValueOf:
    """The function for a field of `for_each`. Raises ValueError if there is no such field."""
    if field.startswith("tags.") and len(field) > len("tags."):
        name = field.removeprefix("tags.")
        return lambda event: (getattr(event.data, "tags", None) or {}).get(name)
    if field not in FIELDS:
        raise ValueError(f"there is no field {field!r}; the fields are {', '.join(FIELDS)} and tags.<name>")
    return FIELDS[field]


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Selects events: every given field must match. Texts are patterns in which `*` matches any text; of a list one must match.

    `steps`: whether events of steps of workflows are included; with "exclude" a failed step raises no alert beside that of its
    workflow. `tags`: tags of the task."""

    type: Patterns = []
    namespace: Patterns = []
    task: Patterns = []
    queue: Patterns = []
    pool: Patterns = []
    error: Patterns = []
    result: Patterns = []
    steps: Literal["include", "exclude", "only"] = "include"
    tags: dict[str, str] = {}

    def __post_init__(self) -> None:
        for pattern in patterns_of(self.type):
            if not any(fnmatchcase(known, pattern) for known in CATALOGUE):
                raise ValueError(f"type: {pattern!r} matches no event type")

    def predicate(self) -> Callable[[Event], bool]:
        """A function that returns whether an event matches. Events about alerts, and those of tasks that alerts submitted, never
        do."""
        types = frozenset(name for name in CATALOGUE if _matches(name, self.type)) if patterns_of(self.type) else None
        wanted: Sequence[tuple[ValueOf, Patterns]] = [
            (FIELDS[name], patterns)
            for name in ("namespace", "task", "queue", "pool", "error", "result")
            if patterns_of(patterns := getattr(self, name))
        ]
        tags = [(value_of(f"tags.{name}"), pattern) for name, pattern in self.tags.items()]

        def matches(event: Event) -> bool:
            if (types is not None and event.type not in types) or is_caused_by_alert(event):
                return False
            if self.steps != "include" and (event.rootid is not None) != (self.steps == "only"):
                return False
            return all(_matches(value(event), patterns) for value, patterns in (*wanted, *tags))

        return matches


def patterns_of(given: Patterns) -> list[str]:
    """A pattern or a list of patterns, as a list."""
    return [given] if isinstance(given, str) else given


def _matches(value: str | None, patterns: Patterns) -> bool:
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns_of(patterns))


def is_caused_by_alert(event: Event) -> bool:
    """Whether an event is about an alert, or about a task that an alert submitted: no rule sees it, so that alerts do not cause
    alerts."""
    if event.entity.startswith("alert/") or event.subject.startswith(ALERT_TASK_PREFIX):
        return True
    if event.rootid is not None and event.rootid.startswith(ALERT_TASK_PREFIX):
        return True
    tags: dict[str, Any] = getattr(event.data, "tags", None) or {}
    return tags.get(ALERT_ORIGIN) == ALERT


def key_of(fields: Sequence[ValueOf]) -> Callable[[Event], str | None]:
    """A function for the key of an event: the values of these fields, joined by ","; None if one of them is missing."""

    def key(event: Event) -> str | None:
        values = [value(event) for value in fields]
        return None if None in values else ",".join(map(str, values))

    return key
