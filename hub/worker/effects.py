"""What the desk is given and what it wants done, as values. `slots.py` returns effects and `desk.py` carries them out; a
simulation may do that in its own way."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import CancelAttempt, Definition, DefinitionsWanted, EngineAnnounced, ExecuteAttempt, GrantAttempt, WorkWanted

from .attempts import Attempt

Command = ExecuteAttempt | CancelAttempt | GrantAttempt | EngineAnnounced | WorkWanted | DefinitionsWanted


class Standing(NamedTuple):
    """What a heartbeat reports to one engine partition: how many attempts it may have here, the tokens it has here, whether
    the worker drains, the revision of what it has registered, and where the partition asks, the definitions."""

    credit: int
    holding: list[str]
    draining: bool
    revision: int = 0
    definitions: list[Definition] | None = None


class BeginBody(NamedTuple):
    """The attempt has a slot: its body begins."""

    attempt: Attempt


class StopBody(NamedTuple):
    """The body is to stop: it is cancelled, or its lease is lost, or the worker stops."""

    attempt: Attempt
    reason: str


class GrantBody(NamedTuple):
    """At most once: the body that waits for its grant may run."""

    attempt: Attempt


class ReportReleased(NamedTuple):
    """The attempt did not begin and goes back to the engine: `attempt.released`."""

    attempt: Attempt
    reason: str


class ReportCancelled(NamedTuple):
    """The attempt was cancelled before it began: `attempt.cancelled`."""

    attempt: Attempt


class ReportStanding(NamedTuple):
    """A heartbeat to a partition, in order with the reports before and after it."""

    partition: int
    standing: Standing


class BeatSoon(NamedTuple):
    """A heartbeat to each of these partitions, as soon as one can be made: their credit has changed."""

    partitions: Sequence[int]


class GiveUp(NamedTuple):
    """Every slot was held by a function that hangs, for longer than the grace time: the worker ends."""


#: What is done at once, and never waits.
ImmediateEffect = BeginBody | StopBody | GrantBody | BeatSoon | GiveUp
Effect = ImmediateEffect | ReportReleased | ReportCancelled | ReportStanding
