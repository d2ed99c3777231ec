"""Figures of a broker, as plain numbers: requests, their durations and those of syncs, bytes. They are read at any time, and
published as metrics by the process that runs the broker.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Distribution(Protocol):
    """A distribution of durations in seconds."""

    def record(self, value: float) -> None:
        """Record one value."""


class _NoDistribution:
    def record(self, value: float) -> None:
        """No effect."""


class BrokerFigures:
    """Totals since the start of the process, by key of the API where they are dicts. `distribution` creates the distributions;
    by default durations are not recorded.

    `requests`: those that were begun. `request_seconds`: from a request to its response, waiting included, for those that have
    one. `sync_seconds`: of a sync of the journal to disk, with the write before it unless the flush policy is an interval.
    `fetched_bytes`: record batches that were returned to clients."""

    def __init__(self, distribution: Callable[[], Distribution] = _NoDistribution) -> None:
        self._distribution = distribution
        self.requests: dict[int, int] = {}
        self.request_seconds: dict[int, Distribution] = {}
        self.sync_seconds = distribution()
        self.fetched_bytes = 0

    def begun(self, key: int) -> None:
        """A request was received."""
        self.requests[key] = self.requests.get(key, 0) + 1

    def responded(self, key: int, seconds: float) -> None:
        """The response to a request was created, `seconds` after the request."""
        distribution = self.request_seconds.get(key)
        if distribution is None:
            distribution = self.request_seconds[key] = self._distribution()
        distribution.record(seconds)


class BrokerAmounts(NamedTuple):
    """What was appended since the start of the process (also by the engine in this process), and present amounts: `log_bytes` of
    all logs, in files and memory; open connections; bytes that may still be written to the disk (None: unknown, or no disk)."""

    appended_bytes: int
    appended_records: int
    log_bytes: int
    connections: int
    usable_bytes: int | None
