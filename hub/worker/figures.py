"""Figures of a worker, as plain data: commands, run times of bodies, lost leases, the delay of its event loop. They are read at
any time and published as metrics by `hub.runtime.instruments`."""

from typing import TypeVar

from schemas import COMMANDS
from schemas.instruments import MESSAGING_BOUNDS, RUN_BOUNDS

from ..metrics.values import Histogram
from .effects import Command
from .outcome import Failed, Outcome, Succeeded

#: Combinations of namespace, name and outcome whose run times are recorded separately; further ones are recorded as OTHER. There
#: are as many names as the worker has handlers.
SERIES_MAX = 1_000
OTHER = "other"

_COMMAND_TYPES = {struct: name for name, struct in COMMANDS.items()}


class WorkerFigures:
    """The figures of one incarnation. Written by its event loop only; `heartbeats` (acknowledged ones) by the thread that sends
    them.

    `commands`: received ones by type. `ran_seconds`: run times of bodies by namespace, name and outcome (success, failure,
    timeout, cancellation). `processed_seconds`: the same by queue and type of the error (empty: none).
    `leases_lost`: running attempts that were stopped because their lease could not be renewed in time.
    `loop_delay_seconds`: by how much a timer was late when it was last checked."""

    def __init__(self) -> None:
        self.commands: dict[str, int] = {}
        self.ran_seconds: dict[tuple[str, str, str], Histogram] = {}
        self.processed_seconds: dict[tuple[str, str], Histogram] = {}
        self._known: dict[_Key, _Distributions] = {}
        self.heartbeats = 0
        self.leases_lost = 0
        self.loop_delay_seconds = 0.0

    def received(self, command: Command) -> None:
        """A command was received."""
        kind = _COMMAND_TYPES[type(command)]
        self.commands[kind] = self.commands.get(kind, 0) + 1

    def ran(self, namespace: str, name: str, queue: str, outcome: Outcome, seconds: float) -> None:
        """A body of a task of this queue ran for `seconds` and has ended."""
        key = (namespace, name, queue, _SUCCESS if type(outcome) is Succeeded else _end_of(outcome))
        for distribution in self._known.get(key) or self._distributions(key):
            distribution.record(seconds)

    def _distributions(self, key: "_Key") -> "_Distributions":
        namespace, name, queue, (word, error_type) = key
        found = (
            _one_of(self.ran_seconds, (namespace, name, word), (OTHER, OTHER, OTHER), RUN_BOUNDS),
            _one_of(self.processed_seconds, (queue, error_type), (OTHER, OTHER), MESSAGING_BOUNDS),
        )
        if len(self._known) < SERIES_MAX:
            self._known[key] = found
        return found


_SUCCESS = ("success", "")
_Key = tuple[str, str, str, tuple[str, str]]
_Distributions = tuple[Histogram, Histogram]
_Labels = TypeVar("_Labels", bound=tuple[str, ...])


def _one_of(series: dict[_Labels, Histogram], labels: _Labels, other: _Labels, bounds: tuple[float, ...]) -> Histogram:
    """The distribution of these labels; that of OTHER if it would be one too many."""
    if labels not in series and len(series) >= SERIES_MAX:
        labels = other
    return series.setdefault(labels, Histogram(bounds))


def _end_of(outcome: Outcome) -> tuple[str, str]:
    """How a body ended, and the type of its error as in the events of the attempt (empty: none)."""
    match outcome:
        case Succeeded():
            return _SUCCESS
        case Failed(timed_out=True):
            return "timeout", "AttemptTimedOut"
        case Failed(error):
            return "failure", error.type
    return "cancellation", ""
