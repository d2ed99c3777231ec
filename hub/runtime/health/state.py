"""What a process knows about its own state, as a value: whether it is ready, and if not, which checks fail and why."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ... import __version__

PROCESS = "process"
"""The name under which a process that is starting or draining is listed among the failed checks."""


class Check(NamedTuple):
    """The result of one check. `detail`: what was found, with the limit if it was exceeded."""

    ok: bool
    detail: str = ""


class HealthLimits(NamedTuple):
    """Limits beyond which a process that runs is not ready; 0: no limit.

    `commit_age_max_seconds`: how long a partition of the engine may have undecided input without committing.
    `watermark_age_max_seconds`: age of its time watermark, up to which all reports have been read. `intake_lag_max`: records of
    `hub.intake` after its position. `delivery_lag_max`: records of `hub.events` that a subscriber has not acknowledged."""

    commit_age_max_seconds: float = 30.0
    watermark_age_max_seconds: float = 30.0
    intake_lag_max: int = 100_000
    delivery_lag_max: int = 0


class Health:
    """The state of one process, read by its health pages.

    `checks`: by name; each is computed from what the process knows, without I/O and without waiting. A check that raises has
    failed. `facts`: what the process reports about itself, JSON types. `clock`: the time in seconds."""

    def __init__(self, role: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.role = role
        self.started = False
        self.draining = False
        self.facts: dict[str, Any] = {}
        self.checks: dict[str, Callable[[], Check]] = {}
        self._clock = clock
        self._began = clock()

    def results(self) -> dict[str, Check]:
        """Every check, computed now."""
        return {name: _computed(check) for name, check in self.checks.items()}

    def failed(self) -> dict[str, str]:
        """The failed checks with their details; empty if the process is ready. A process that is starting or draining is not."""
        return self._failed(self.results())

    def _failed(self, results: Mapping[str, Check]) -> dict[str, str]:
        failed = {name: check.detail for name, check in results.items() if not check.ok}
        if self.draining:
            return {PROCESS: "it is draining"} | failed
        return failed if self.started else {PROCESS: "it is starting"} | failed

    def status(self) -> dict[str, Any]:
        """{"role", "pid", "version", "uptime_seconds", "ready", "draining", "failed", "checks", "facts"}, JSON types."""
        results = self.results()
        failed = self._failed(results)
        return {
            "role": self.role,
            "pid": os.getpid(),
            "version": __version__,
            "uptime_seconds": round(self._clock() - self._began, 3),
            "ready": not failed,
            "draining": self.draining,
            "failed": failed,
            "checks": {name: {"ok": check.ok, "detail": check.detail} for name, check in results.items()},
            "facts": self.facts,
        }


def _computed(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(False, f"the check raised {type(error).__name__}: {error}")
