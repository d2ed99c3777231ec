"""A worker in memory."""

from schemas.reports import WorkerRegistered, WorkerReport

from ..times import us_of_seconds


class LiveWorker:
    """A worker as it described itself in its last reports. Soft state. `definitions`: ids of what it has registered, as of
    `revision`; -1: it has not said. `registered`: the revision of its last registration, as far as is known."""

    __slots__ = (
        "credit",
        "definitions",
        "draining",
        "inbox",
        "incarnation",
        "last_report_us",
        "lease_us",
        "missed",
        "missing",
        "pool",
        "queues",
        "registered",
        "revision",
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
        self.definitions: frozenset[str] = frozenset()
        self.revision = self.registered = -1
        self.slots = 0
        self.credit = 0
        self.draining = False
        self.missed = False
        self.missing: set[str] = set()
        self.wanted_us = 0

    def update(self, report: WorkerReport, now_us: int) -> None:
        """Take in a report."""
        self.last_report_us = now_us
        self.lease_us = us_of_seconds(report.lease_seconds)
        self.missed = False
        self.pool, self.inbox, self.slots, self.credit = report.pool, report.inbox, report.slots, report.credit
        self.queues = frozenset(report.queues)
        if report.definitions is not None and report.revision >= self.revision:
            self.revision = report.revision
            if isinstance(report, WorkerRegistered):
                self.registered = report.revision
            self.definitions = frozenset(one.id for one in report.definitions)
