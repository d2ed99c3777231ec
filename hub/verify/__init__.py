"""The checker: verifies the hub's guarantees from its topics alone, independently of the engine."""

from .checker import Checker, check
from .history import Delivery, Execution, History, Journal, LogRecord, Options, Position
from .invariants import INVARIANTS, Invariant
from .live import verify, verify_source
from .local_source import LocalSource
from .report import Finding, Prefix, Report
from .source import Source, Span

__all__ = [
    "INVARIANTS",
    "Checker",
    "Delivery",
    "Execution",
    "Finding",
    "History",
    "Invariant",
    "Journal",
    "LocalSource",
    "LogRecord",
    "Options",
    "Position",
    "Prefix",
    "Report",
    "Source",
    "Span",
    "check",
    "verify",
    "verify_source",
]
