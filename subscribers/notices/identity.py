"""What an event is about: the key under which destinations recognise repetitions, and the group that a later event resolves.

    event                            key                                              group                 resolved by
    task.*, attempt.*                <type>/<namespace>/<task name>/<error type>      task/<ns>/<name>      task.completed
    workflow.*                       <type>/<namespace>/<task name>/<error type>      workflow/<ns>/<name>  workflow.completed
    worker.*                         <type>/<pool>                                    worker/<pool>         worker.registered
    engine.storage_changed           <type>/<level>                                   engine/storage        the same, level ok
    alert.*                          alert/<rule>/<key>                               the key               alert.resolved
    subscriber.*                     <type>/<id of the subscriber>                    subscriber/<id>       subscriber.recovered
    others                           <type>/<kind of the entity>                      none                  nothing

No key has the id of a task, a worker or a partition: the same fault of another task is a repetition, not a new alert.

Rules: pure. The data of an event may be of a type that this release does not know.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from schemas import Event

from ..api import exception_of

KEY_BYTES_MAX = 255
"""The shortest limit of a destination that shows keys is 255 (PagerDuty)."""

RECOVERIES: Mapping[str, str] = {
    "task": "task.completed",
    "attempt": "task.completed",
    "workflow": "workflow.completed",
    "worker": "worker.registered",
    "alert": "alert.resolved",
    "subscriber": "subscriber.recovered",
}
"""By kind of the failing event: the type of the event that resolves it."""

_STORAGE = "engine.storage_changed"
_HASH_BYTES = 8


def field(event: Event, name: str) -> Any:
    """A field of the event's data, which may be a struct or a mapping; None if it is absent."""
    data = event.data
    return data.get(name) if isinstance(data, Mapping) else getattr(data, name, None)


def kind_of(event: Event) -> str:
    """The first part of the event's type: task, attempt, workflow, worker, engine, alert."""
    return event.type.partition(".")[0]


def key_of(event: Event) -> str:
    """The deduplication key, at most KEY_BYTES_MAX bytes of ASCII."""
    if kind_of(event) == "alert":
        return _joined("alert", field(event, "rule") or "", field(event, "key") or "")
    if event.taskname is not None:
        error = exception_of(event.data)
        return _joined(event.type, event.namespace or "", event.taskname, *([error.type] if error else []))
    if kind_of(event) == "worker":
        return _joined(event.type, field(event, "pool") or "")
    if event.type == _STORAGE:
        return _joined(event.type, field(event, "level") or "")
    if kind_of(event) == "subscriber":
        return _joined(event.type, event.subject)
    return _joined(event.type, event.entity.partition("/")[0])


def group_of(event: Event) -> str | None:
    """The group of a failing event, which a later event resolves; None if nothing resolves it."""
    kind = kind_of(event)
    if kind == "alert":
        return key_of(event)
    if event.taskname is not None:
        return _joined("workflow" if kind == "workflow" else "task", event.namespace or "", event.taskname)
    if kind == "worker":
        return _joined("worker", field(event, "pool") or "")
    if kind == "subscriber" and event.type != "subscriber.dead_lettered":
        return _joined("subscriber", event.subject)
    return "engine/storage" if event.type == _STORAGE else None


def is_recovery(event: Event) -> bool:
    """Whether the event resolves the alerts of its group."""
    if event.type == _STORAGE:
        return bool(field(event, "level") == "ok")
    if event.type == "worker.registered":
        return (field(event, "revision") or 0) <= 1  # a later revision is of a worker that was here all the time
    return RECOVERIES.get(kind_of(event)) == event.type


def is_only_a_recovery(event: Event) -> bool:
    """Whether the event has no meaning but to resolve alerts, so that it is not announced if none fires. The end of a
    task has."""
    return is_recovery(event) and kind_of(event) in ("alert", "engine")


@lru_cache(4096)
def _joined(*parts: str) -> str:
    """The parts, percent-encoded so that different parts give different keys. A key that is too long ends in its hash."""
    key = "/".join(quote(part, safe="*@:+") for part in parts)
    if len(key) <= KEY_BYTES_MAX:
        return key
    return f"{key[: KEY_BYTES_MAX - 2 * _HASH_BYTES - 1]}~{blake2b(key.encode(), digest_size=_HASH_BYTES).hexdigest()}"
