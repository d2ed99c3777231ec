"""What the process of a subscriber reports to the process of delivery: one JSON object per line, on a pipe.

{"invalid": "..."}            the configuration is invalid; the process ends
{"status": {...}}             the fields of SubscriberStatus; at least every REPORT_SECONDS: without one the process is ended
{"draining": true}            SIGTERM came: the process ends soon, and no event is the cause, not even one that is being handled
{"metrics": {...}}            a snapshot of its metrics, after changes, at most every METRICS_SECONDS
"""

import json
import os
from typing import Any

from msgspec import ValidationError, convert

from ...logs import Logger
from ...metrics import MetricsSnapshot, encode_snapshot
from ...metrics.merging import of_subscriber
from ...telemetry import masked
from ..status import SubscriberStatus

REPORT_SECONDS = 2.0
METRICS_SECONDS = 5.0
LINE_BYTES_MAX = 1 << 20
METRICS_BYTES_MAX = LINE_BYTES_MAX // 2
"""A larger snapshot is not sent."""

log = Logger(__name__)


class Reporter:
    """The end of the pipe in the subscriber's process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sent: MetricsSnapshot | None = None
        self._is_too_large = False

    def invalid(self, error: str) -> None:
        """The configuration is invalid."""
        self._write({"invalid": masked(error)})

    def draining(self) -> None:
        """SIGTERM came."""
        self._write({"draining": True})

    def status(self, status: SubscriberStatus) -> None:
        """The present status. Secrets are masked here: only this process knows those of the plugin."""
        error = None if status.error is None else masked(status.error)
        self._write({"status": {**status.as_dict(), "error": error}})

    def metrics(self, snapshot: MetricsSnapshot) -> None:
        """The present metrics, if they have changed. A snapshot that is too large is not sent, which is logged once."""
        if self._sent is not None and self._sent.instruments == snapshot.instruments:
            return
        self._sent = snapshot
        encoded = encode_snapshot(snapshot)
        if len(encoded) <= METRICS_BYTES_MAX:
            self._is_too_large = False
            self._write_line(b'{"metrics":' + encoded + b"}\n")
        elif not self._is_too_large:
            self._is_too_large = True
            about = {"size": len(encoded), "size_max": METRICS_BYTES_MAX}
            log.warning("the metrics of a subscriber are too large and not published", action="subscriber_metrics_large", **about)

    def _write(self, message: dict[str, Any]) -> None:
        self._write_line(json.dumps(message).encode() + b"\n")

    def _write_line(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]


class ReportReader:
    """The other end: splits what was read into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def messages_in(self, piece: bytes) -> list[dict[str, Any]]:
        """The messages that are complete with this piece. A line that is too long or not JSON is left out: the plugin's code
        can write to any descriptor of its process."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        found = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                found.append(message)
        return found


def status_in(message: dict[str, Any]) -> SubscriberStatus | None:
    """The status in a message; None if it has none, or not a valid one."""
    fields = message.get("status")
    try:
        return None if fields is None else SubscriberStatus(**{**fields, "partitions": tuple(fields["partitions"])})
    except (TypeError, KeyError):
        return None


def metrics_in(message: dict[str, Any], subscriber_id: str) -> MetricsSnapshot | None:
    """The metrics in a message, of which only those that this subscriber can have; None if it has none, or not valid ones."""
    try:
        return of_subscriber(convert(message["metrics"], MetricsSnapshot), subscriber_id) if "metrics" in message else None
    except (ValidationError, RecursionError):
        return None
