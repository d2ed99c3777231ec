"""The lifecycle of a subscriber, as the process that runs it observes it. The entity is `subscriber/<id>`."""

from typing import Annotated

from ..fields import By, Host, Pid, Reason, about
from .base import EventData


class SubscriberEvent(EventData, kw_only=True):
    """Common fields: the process that observed it."""

    host: Host = ""
    pid: Pid = 0


class SubscriberStarted(SubscriberEvent, kw_only=True):
    """A process began to deliver events to the subscriber."""

    use: Annotated[str, about("Its plugin: the name of an entry point, or module:Class.", "console")]


class SubscriberStopped(SubscriberEvent, kw_only=True):
    """A process stopped delivering events to the subscriber."""

    reason: Reason = ""


class SubscriberFailing(SubscriberEvent, kw_only=True):
    """The subscriber does not run: its import, its start or its process failed. It is started again later."""

    error: Annotated[str, about("The error, as text for people; at most 500 characters.", "ImportError: no module named stripe")]


class SubscriberUnavailable(SubscriberEvent, kw_only=True):
    """The destination of the subscriber takes no events: its events wait."""

    reason: Reason = ""


class SubscriberRecovered(SubscriberEvent, kw_only=True):
    """The subscriber runs again, or its destination takes events again."""

    failing_seconds: Annotated[float, about("Seconds since it began to fail.", 12.5)]


class SubscriberPaused(SubscriberEvent, kw_only=True):
    """An operator paused the subscriber: its events wait."""

    reason: Reason = ""
    by: By = None


class SubscriberResumed(SubscriberEvent, kw_only=True):
    """A paused subscriber runs again."""

    by: By = None


class SubscriberDeadLettered(SubscriberEvent, kw_only=True):
    """Events could not be delivered and were written to the dead letters of the subscriber. One event may stand for many."""

    count: Annotated[int, about("Number of dead letters since the previous event of this type, from 1.", 3)]
    error: Annotated[str, about("The latest error, as text for people; at most 500 characters.", "HTTPError: 400")] = ""


class SubscriberReplayed(SubscriberEvent, kw_only=True):
    """Events of the past were delivered to the subscriber once more, on request."""

    count: Annotated[int, about("Number of events that were delivered, from 0.", 1200)]
    begin: Annotated[str | None, about("Time from which events were delivered (RFC 3339); absent: all.", None)] = None
    end: Annotated[str | None, about("Time up to which events were delivered (RFC 3339); absent: all.", None)] = None
    by: By = None
