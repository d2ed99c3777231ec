"""Which events are announced: those with which an alert begins to fire, repetitions at most once per interval, and resolutions.

State, per group of alerts (see `identity.py`): the key "firing/<group>", with the notices that were sent and not resolved yet. So
an alert is resolved also after a restart, and by another process of the same subscriber. The time of the last failure is kept in
memory only: a write per suppressed event would cost too much.

Rules: times are those of the events, so that a replay of the same events decides the same; no clock. The state is written after
the destination has accepted the notices: after a crash in between they are sent again, with the same key.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct, ValidationError, convert, to_builtins
from msgspec.structs import replace

from schemas import CATALOGUE, Event

from ..api import State, type_matches
from .cutting import cut_characters
from .identity import RECOVERIES, group_of, is_only_a_recovery, is_recovery, key_of
from .notice import LinkTemplates, Notice, notice_of, resolution_of

WARNING_NUMBER, ERROR_NUMBER = 13, 17
PREFIX = "firing/"
GROUPS_MAX = 1000
"""Groups that can fire at once; beyond it the one whose last notice is oldest is forgotten."""
KEYS_MAX = 6
"""Alerts of one group that can fire at once, for example kinds of errors of a task; further kinds are treated as repetitions."""
_STORED_TITLE_CHARACTERS, _STORED_TEXT_CHARACTERS = 200, 300

DEFAULT_TYPES: tuple[str, ...] = (
    *(row.type for row in CATALOGUE.values() if row.severity >= ERROR_NUMBER),
    "engine.storage_changed",
)
"""The types that are announced unless the settings select others: errors, the state of the disk, and alerts of rules."""


class AlertPolicy(NamedTuple):
    """`types`: the event types that are announced, `*` matches any text. `repeat_after_seconds`: a failure is announced again if
    the last notice is at least this old. `resolve_after_seconds`: an event resolves only alerts whose last failure is at least
    this old."""

    types: tuple[str, ...] = DEFAULT_TYPES
    templates: LinkTemplates = LinkTemplates()
    repeat_after_seconds: float = 4 * 3600.0
    resolve_after_seconds: float = 0.0

    def tells(self, event_type: str) -> bool:
        """Whether events of this type are announced."""
        return any(type_matches(pattern, event_type) for pattern in self.types)


class Firing(Struct, frozen=True, omit_defaults=True):
    """An alert that was announced and is not resolved: what all its notices have in common, and when it was announced and failed
    last, in seconds since 1970. `repeats`: failures since it was announced."""

    notice: Notice
    told_at: float
    failed_at: float
    repeats: int = 0


Group = dict[str, Firing]
"""The alerts of a group by their keys."""


def types_to_receive(types: Sequence[str]) -> tuple[str, ...]:
    """The event types that a subscriber needs: `types`, and those that resolve their alerts."""
    failing = [row.type for row in CATALOGUE.values() if row.severity >= WARNING_NUMBER]
    told = [one for one in failing if any(type_matches(pattern, one) for pattern in types)]
    recoveries = [RECOVERIES[kind] for kind in (one.partition(".")[0] for one in told) if kind in RECOVERIES]
    return tuple(dict.fromkeys((*types, *recoveries)))


def seconds_of(time: str) -> float:
    """An RFC 3339 time in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


def group_name(event: Event) -> str:
    """The group whose alerts the event fires or resolves."""
    return group_of(event) or f"once/{key_of(event)}"


def take(group: Group, event: Event, policy: AlertPolicy) -> tuple[Group, list[Notice]]:
    """The alerts of the event's group after the event, and the notices to send. Pure; `group` is not changed."""
    notices: list[Notice] = []
    if is_recovery(event):
        group, notices = _resolved(group, event, policy)
    if not policy.tells(event.type) or is_only_a_recovery(event):
        return group, notices
    if event.severitynumber < WARNING_NUMBER:  # selected although it is not a failure: each event is announced
        return group, [*notices, notice_of(event, policy.templates)]
    group, fired = _failed(group, event, policy)
    return group, [*notices, *fired]


def _resolved(group: Group, event: Event, policy: AlertPolicy) -> tuple[Group, list[Notice]]:
    latest = seconds_of(event.time) - policy.resolve_after_seconds
    over = [key for key, firing in group.items() if firing.failed_at <= latest]
    if not over:
        return group, []
    left = {key: firing for key, firing in group.items() if key not in over}
    return left, [resolution_of(group[key].notice, event, policy.templates) for key in over]


def _failed(group: Group, event: Event, policy: AlertPolicy) -> tuple[Group, list[Notice]]:
    key, now = key_of(event), seconds_of(event.time)
    known = group.get(key)
    if known is None:
        if len(group) >= KEYS_MAX:
            return group, []
        notice = notice_of(event, policy.templates)
        return {**group, key: Firing(_stored(notice), now, now)}, [notice]
    failed_at = max(now, known.failed_at)
    if now < known.told_at + policy.repeat_after_seconds:
        return {**group, key: replace(known, failed_at=failed_at, repeats=known.repeats + 1)}, []
    return {**group, key: Firing(known.notice, now, failed_at)}, [_repeated(known, notice_of(event, policy.templates))]


def _repeated(known: Firing, notice: Notice) -> Notice:
    """The notice of an alert that still fires: its identity is that of the first one."""
    first = known.notice
    return replace(
        notice,
        title=first.title,
        severity=first.severity,
        labels=first.labels,
        started_at=first.started_at,
        details={**notice.details, "failures since the last notice": str(known.repeats + 1)},
    )


def _stored(notice: Notice) -> Notice:
    """What all notices of an alert have in common."""
    title = cut_characters(notice.title, _STORED_TITLE_CHARACTERS)
    text = cut_characters(notice.text, _STORED_TEXT_CHARACTERS)
    return replace(notice, title=title, text=text, details={}, error=None, trace=None)


class Alerts:
    """The alerts of one subscriber. `take` decides about one event after the other; `commit` after the destination has accepted
    the notices, `discard` if it has not."""

    def __init__(self, policy: AlertPolicy, state: State, on_forgotten: Callable[[str], None]) -> None:
        self._policy = policy
        self._state = state
        self._on_forgotten = on_forgotten
        self._known: dict[str, tuple[Any, Group]] = {}
        self._taken: dict[str, Group] = {}
        self._told: set[str] = set()

    def take(self, event: Event) -> list[Notice]:
        """The notices to send because of the event."""
        name = group_name(event)
        before = self._taken[name] if name in self._taken else self._group(name)
        if not before and not self._policy.tells(event.type):
            return []
        after, notices = take(before, event, self._policy)
        if after is not before:
            self._taken[name] = after
            if notices:
                self._told.add(name)
        return notices

    def firing(self) -> list[Notice]:
        """What all notices of the alerts that fire have in common."""
        groups = (self._group(key.removeprefix(PREFIX)) for key in self._state.keys(PREFIX))
        return [firing.notice for group in groups for firing in group.values()]

    async def commit(self) -> None:
        """Keep what `take` has decided; the state is written for groups with notices."""
        for name, group in self._taken.items():
            if name in self._told:
                await self._write(name, group)
            self._known[name] = (self._state.get(PREFIX + name), group)
        self.discard()

    def discard(self) -> None:
        """Forget what `take` has decided since the last `commit`: the same events will be delivered again."""
        self._taken, self._told = {}, set()

    def _group(self, name: str) -> Group:
        stored = self._state.get(PREFIX + name)
        if stored is None:
            self._known.pop(name, None)
            return {}
        known = self._known.get(name)
        if known is None or known[0] != stored:
            known = self._known[name] = (stored, _read(stored))
        return known[1]

    async def _write(self, name: str, group: Group) -> None:
        key = PREFIX + name
        if not group:
            return await self._state.delete(key)
        if self._state.get(key) is None and len(keys := self._state.keys(PREFIX)) >= GROUPS_MAX:
            oldest = min(keys, key=lambda one: max((each.told_at for each in _read(self._state.get(one)).values()), default=0.0))
            self._known.pop(oldest.removeprefix(PREFIX), None)
            self._on_forgotten(oldest.removeprefix(PREFIX))
            await self._state.delete(oldest)
        await self._state.put(key, to_builtins(group))


def _read(stored: Any) -> Group:
    """A group as it was stored; empty if another release stored it in another form."""
    try:
        return convert(stored, Group)
    except ValidationError:
        return {}
