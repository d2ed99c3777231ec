"""Runs subscribers in processes of their own. See README.md."""

from .choice import is_builtin, is_isolated
from .isolated import IsolatedSubscriber, Job
from .reports import Reporter

__all__ = [
    "IsolatedSubscriber",
    "Job",
    "Reporter",
    "is_builtin",
    "is_isolated",
]
