"""For tests of tasks and subscribers without a broker: a complete hub in memory with a manual clock. See README.md."""

from ..verify import VerificationReport
from .contract import SubscriberContract
from .factories import EventRecord, make_event, make_event_record, make_submission
from .harness import SubscriberHarness
from .http_endpoint import HttpEndpoint, HttpReply, Received
from .hub import HubInMemory, VerificationError
from .quiet import StalledError
from .recording import RecordingSubscriber
from .subscription import DeadLetteredEvent, Subscription

__all__ = [
    "DeadLetteredEvent",
    "EventRecord",
    "HttpEndpoint",
    "HttpReply",
    "HubInMemory",
    "Received",
    "RecordingSubscriber",
    "StalledError",
    "SubscriberContract",
    "SubscriberHarness",
    "Subscription",
    "VerificationError",
    "VerificationReport",
    "make_event",
    "make_event_record",
    "make_submission",
]
