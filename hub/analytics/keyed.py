"""What a rule remembers: per key the panes of its window and the latest causes. Plain data, so that it can be saved.

All operations are commutative in the order of partitions, and what is removed depends on the latest event only, never on a clock.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct, field

from schemas import Event

from .moments import moment_of
from .spread import Spread

KEYS_MAX = 10_000
"""Most keys of a rule; events of further ones count for the key OTHER."""
OTHER = "(other)"
CAUSES_MAX = 10


class Cause(NamedTuple):
    """An event that counts for an alert: when it happened, its position in the log, its id, and the task (empty: none)."""

    at: int
    partition: int
    offset: int
    event: str
    task: str = ""
    root: str = ""


def cause_of(event: Event, partition: int, offset: int) -> Cause:
    """The event as a cause."""
    is_task = event.entity.startswith("task/")
    task, root = (event.subject, event.rootid or event.subject) if is_task else ("", "")
    return Cause(moment_of(event), partition, offset, event.id, task, root)


class RuleFinding(NamedTuple):
    """The condition of a rule holds for a key. `values`: of the fields in `for_each`; `latest`: when its newest cause
    happened."""

    value: float
    threshold: float
    latest: int
    values: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()


class Cell(Struct, omit_defaults=True):
    """Events of one pane: their number, how many of them matched the second pattern of the rule, and their durations."""

    count: int = 0
    part: int = 0
    spread: Spread = field(default_factory=Spread)


class KeyState(Struct, omit_defaults=True):
    """What is known of one key. `panes`: by number; `causes`: the latest ones, ascending; `last`: the latest event."""

    values: tuple[str, ...] = ()
    panes: dict[int, Cell] = {}
    causes: list[Cause] = []
    last: int = 0

    def note(self, cause: Cause) -> None:
        """Keep a cause if it is among the latest."""
        self.last = max(self.last, cause.at)
        self.causes.append(cause)
        if len(self.causes) > 1 and self.causes[-2] > cause:
            self.causes.sort()
        del self.causes[:-CAUSES_MAX]


class KeyedPanes(Struct):
    """The keys of one rule. `pane`: length of a pane in microseconds."""

    pane: int
    keys: dict[str, KeyState] = {}

    def state_of(self, values: Sequence[str]) -> KeyState:
        """The state of a key, which is created if necessary."""
        key = ",".join(values)
        state = self.keys.get(key)
        if state is None:
            if len(self.keys) >= KEYS_MAX:
                key, values = OTHER, [OTHER] * len(values)
            state = self.keys.setdefault(key, KeyState(tuple(values)))
        return state

    def add(
        self, values: Sequence[str], cause: Cause, *, part: bool = False, seconds: float | None = None, causes: bool = True
    ) -> None:
        """Count one event for the key with these values. `causes`: whether it is a cause of an alert."""
        state = self.state_of(values)
        cell = state.panes.setdefault(cause.at // self.pane, Cell())
        cell.count += 1
        cell.part += part
        if seconds is not None:
            cell.spread.add(seconds)
        if causes:
            state.note(cause)

    def total(self, state: KeyState, start: int) -> Cell:
        """The sum of the panes from the one with the moment `start` on."""
        found, first = Cell(), start // self.pane
        for number, cell in state.panes.items():
            if number >= first:
                found.count += cell.count
                found.part += cell.part
                found.spread.merge(cell.spread)
        return found

    def expire(self, before: int) -> None:
        """Remove the panes that end before a moment, causes in them, and keys without panes."""
        first = before // self.pane
        for key, state in list(self.keys.items()):
            for number in [number for number in state.panes if number < first]:
                del state.panes[number]
            state.causes = [cause for cause in state.causes if cause.at >= first * self.pane]
            state.last = state.causes[-1].at if state.causes else 0
            if not state.panes:
                del self.keys[key]
