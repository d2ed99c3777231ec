"""Events of the lifecycle of a worker, a process identified by its incarnation."""

from typing import Annotated

from ..definitions import DefinitionId
from ..fields import Host, Inbox, Pid, Pool, about
from .base import EventData


class WorkerEvent(EventData, kw_only=True):
    """Common fields: the worker's description of itself."""

    pool: Pool
    host: Host = ""
    pid: Pid = 0
    slots: Annotated[int, about("Number of slots: tasks that it runs concurrently; absent: 0.", 64)] = 0


class WorkerRegisteredEvent(WorkerEvent, kw_only=True):
    """A new incarnation takes work, or one has registered more."""

    inbox: Inbox
    queues: Annotated[list[str], about("Queues that it serves, at most 10,000.", ["default"])] = []
    revision: Annotated[int, about("Counts the changes of what it has registered, from 1; absent: it never changes.", 1)] = 0
    definitions: Annotated[
        list[DefinitionId], about("Ids of the definitions that it has handlers for, at most 2,000.", ["*/charge@1"])
    ] = []
    lease_seconds: Annotated[
        float, about("Seconds without a heartbeat after which the worker is lost, 0.1 to 3,600; absent: 10 seconds.", 10.0)
    ] = 10.0


class WorkerHeartbeatMissed(WorkerEvent, kw_only=True):
    """The worker sent no heartbeat for two thirds of its lease."""

    silent_seconds: Annotated[float, about("Seconds since its last heartbeat; absent: 0 seconds.", 7.1)] = 0.0


class WorkerLostEvent(WorkerEvent, kw_only=True):
    """The worker sent no heartbeat for its lease, or its process died."""

    reason: Annotated[str, about("Evidence of the loss, as text for people.", "silent for 10 s")] = ""


class WorkerDrainingEvent(WorkerEvent, kw_only=True):
    """The worker accepts no new work."""


class WorkerStoppedEvent(WorkerEvent, kw_only=True):
    """The worker shut down."""
