"""Inputs and effects of the desk, as values. `slots.py` returns effects; `desk.py`, or a simulation, executes them."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import CancelAttempt, Definition, DefinitionsWanted, EngineAnnounced, ExecuteAttempt, GrantAttempt, WorkWanted

from .attempts import Attempt

Command = ExecuteAttempt | CancelAttempt | GrantAttempt | EngineAnnounced | WorkWanted | DefinitionsWanted


class Standing(NamedTuple):
    """The state that a heartbeat reports to one engine partition: its credit (the number of attempts it may have on this
    worker), the tokens of its leases, whether the worker drains, the revision of the registration, and, if the partition
    requested them, the definitions."""

    credit: int
    holding: list[str]
    draining: bool
    revision: int = 0
    definitions: list[Definition] | None = None


class BeginBody(NamedTuple):
    """Start the body: the attempt has a slot."""

    attempt: Attempt


class StopBody(NamedTuple):
    """Stop the body: the attempt was cancelled, its lease was lost, or the worker stops."""

    attempt: Attempt
    reason: str


class GrantBody(NamedTuple):
    """Let the body run that waits for its grant (delivery `at_most_once`)."""

    attempt: Attempt


class ReportReleased(NamedTuple):
    """Report `attempt.released`: the attempt did not begin and is returned to the engine."""

    attempt: Attempt
    reason: str


class ReportCancelled(NamedTuple):
    """Report `attempt.cancelled`: the attempt was cancelled before it began."""

    attempt: Attempt


class ReportStanding(NamedTuple):
    """Send a heartbeat to a partition, in order with the reports before and after it."""

    partition: int
    standing: Standing


class BeatSoon(NamedTuple):
    """Send a heartbeat to each of these partitions as soon as possible: their credit has changed."""

    partitions: Sequence[int]


class GiveUp(NamedTuple):
    """End the worker: hung functions have held all slots for longer than the grace time."""


#: Effects that are executed without waiting.
ImmediateEffect = BeginBody | StopBody | GrantBody | BeatSoon | GiveUp
Effect = ImmediateEffect | ReportReleased | ReportCancelled | ReportStanding
