"""The checker: verifies the hub's guarantees from its topics alone, independently of the engine."""

from .checker import Checker, check
from .history import CommittedPosition, DeliveredEvent, Execution, History, LogRecord, Options, SubscriberJournal
from .invariants import INVARIANTS, Invariant
from .live import verify, verify_source
from .local_source import LocalSource
from .report import Finding, Prefix, VerificationReport
from .source import Source, Span

__all__ = [
    "INVARIANTS",
    "Checker",
    "CommittedPosition",
    "DeliveredEvent",
    "Execution",
    "Finding",
    "History",
    "Invariant",
    "LocalSource",
    "LogRecord",
    "Options",
    "Prefix",
    "Source",
    "Span",
    "SubscriberJournal",
    "VerificationReport",
    "check",
    "verify",
    "verify_source",
]
