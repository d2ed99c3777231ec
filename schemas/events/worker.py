"""The lifecycle of a worker: one process, by its incarnation."""

from typing import Annotated

from ..definitions import DefinitionId
from ..fields import Host, Inbox, Pid, Pool, about
from .base import EventData


class WorkerEvent(EventData, kw_only=True):
    """A worker, as it described itself."""

    pool: Pool
    host: Host = ""
    pid: Pid = 0
    slots: Annotated[int, about("How many tasks it runs at once; absent: 0.", 64)] = 0


class WorkerRegisteredEvent(WorkerEvent, kw_only=True):
    """A new incarnation takes work, or one has registered more."""

    inbox: Inbox
    queues: Annotated[list[str], about("Queues that it serves, at most 10,000.", ["default"])] = []
    revision: Annotated[int, about("Counts the changes of what it has registered, from 1; absent: it never changes.", 1)] = 0
    definitions: Annotated[
        list[DefinitionId], about("Ids of the definitions that it has handlers for, at most 2,000.", ["*/charge@1"])
    ] = []
    lease_seconds: Annotated[
        float, about("Seconds of silence after which the worker counts as dead, 0.1 to 3,600; absent: 10 seconds.", 10.0)
    ] = 10.0


class WorkerHeartbeatMissed(WorkerEvent, kw_only=True):
    """Silent for longer than two thirds of its lease."""

    silent_seconds: Annotated[float, about("For how many seconds it has been silent; absent: 0 seconds.", 7.1)] = 0.0


class WorkerLostEvent(WorkerEvent, kw_only=True):
    """Dead: silent for a whole lease, or seen to die."""

    reason: Annotated[str, about("How that is known, as text for people.", "silent for 10 s")] = ""


class WorkerDrainingEvent(WorkerEvent, kw_only=True):
    """Takes nothing new."""


class WorkerStoppedEvent(WorkerEvent, kw_only=True):
    """Left in order."""
