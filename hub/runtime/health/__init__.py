"""Health pages of a process and of a supervisor over HTTP: liveness, readiness, status, metrics. See README.md."""

from .fetch import FetchedPage, PageUnavailable, fetch
from .fleet import FleetMember, FleetPages, ask_all
from .http import Request, Response
from .pages import Pages, ProcessPages
from .server import HealthAddress, HealthAddressTaken, HealthServer
from .state import Check, Health, HealthLimits

__all__ = [
    "Check",
    "FetchedPage",
    "FleetMember",
    "FleetPages",
    "Health",
    "HealthAddress",
    "HealthAddressTaken",
    "HealthLimits",
    "HealthServer",
    "PageUnavailable",
    "Pages",
    "ProcessPages",
    "Request",
    "Response",
    "ask_all",
    "fetch",
]
