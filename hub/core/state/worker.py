"""A worker in memory."""

from schemas import TaskOptions
from schemas.reports import WorkerReport

from ..times import us_of_seconds


class LiveWorker:
    """A worker as described in its last report. Soft state."""

    __slots__ = (
        "credit",
        "draining",
        "inbox",
        "incarnation",
        "last_report_us",
        "lease_us",
        "missed",
        "missing",
        "names",
        "options",
        "pool",
        "queues",
        "slots",
        "wanted_us",
    )

    def __init__(self, incarnation: str, now_us: int, lease_us: int) -> None:
        self.incarnation = incarnation
        self.last_report_us = now_us
        self.lease_us = lease_us
        self.pool = ""
        self.inbox = 0
        self.queues: frozenset[str] = frozenset()
        self.names: frozenset[str] = frozenset()
        self.options: dict[str, TaskOptions] = {}
        self.slots = 0
        self.credit = 0
        self.draining = False
        self.missed = False
        self.missing: set[str] = set()
        self.wanted_us = 0

    def update(self, report: WorkerReport, now_us: int) -> bool:
        """Update from a report. Returns whether the set of tasks that it can run has changed."""
        self.last_report_us = now_us
        self.lease_us = us_of_seconds(report.lease_seconds)
        self.missed = False
        changed = (report.queues, report.names) != (sorted(self.queues), sorted(self.names)) or not self.pool
        self.pool, self.inbox, self.slots, self.credit = report.pool, report.inbox, report.slots, report.credit
        self.options = report.options
        if changed:
            self.queues, self.names = frozenset(report.queues), frozenset(report.names)
        return changed
