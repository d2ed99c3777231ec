"""The checker: a second, independent reading of what the hub promises, from its topics alone."""

from .checker import Checker, check
from .history import Delivery, Execution, History, Journal, LogRecord, Options, Position
from .invariants import INVARIANTS, Invariant
from .report import Finding, Prefix, Report

__all__ = [
    "INVARIANTS",
    "Checker",
    "Delivery",
    "Execution",
    "Finding",
    "History",
    "Invariant",
    "Journal",
    "LogRecord",
    "Options",
    "Position",
    "Prefix",
    "Report",
    "check",
]
