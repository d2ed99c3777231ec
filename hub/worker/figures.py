"""Figures of a worker, as plain data: commands, run times of bodies, lost leases, the delay of its event loop. They are read at
any time and published as metrics by `hub.runtime.instruments`."""

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
        self.heartbeats = 0
        self.leases_lost = 0
        self.loop_delay_seconds = 0.0

    def received(self, command: Command) -> None:
        """A command was received."""
        kind = _COMMAND_TYPES[type(command)]
        self.commands[kind] = self.commands.get(kind, 0) + 1

    def ran(self, namespace: str, name: str, outcome: Outcome, seconds: float) -> None:
        """A body ran for `seconds` and has ended."""
        key = (namespace, name, _word_for(outcome))
        distribution = self.ran_seconds.get(key)
        if distribution is None:
            if len(self.ran_seconds) >= SERIES_MAX:
                key = (OTHER, OTHER, OTHER)
            distribution = self.ran_seconds.setdefault(key, Histogram(RUN_BOUNDS))
        distribution.record(seconds)

    def processed(self, queue: str, outcome: Outcome, seconds: float) -> None:
        """A body of a task of this queue ran for `seconds` and has ended."""
        key = (queue, _error_type(outcome))
        distribution = self.processed_seconds.get(key)
        if distribution is None:
            if len(self.processed_seconds) >= SERIES_MAX:
                key = (OTHER, OTHER)
            distribution = self.processed_seconds.setdefault(key, Histogram(MESSAGING_BOUNDS))
        distribution.record(seconds)


def _error_type(outcome: Outcome) -> str:
    """As in the events of the attempt."""
    if not isinstance(outcome, Failed):
        return ""
    return "AttemptTimedOut" if outcome.timed_out else outcome.error.type


def _word_for(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "success"
        case Failed():
            return "timeout" if outcome.timed_out else "failure"
    return "cancellation"
