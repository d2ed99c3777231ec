"""Counts the notifications of a target by their outcome, in `hub.alert.notifications`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..api import Unavailable, Undeliverable
from ..api.metrics import Metrics
from .notice import Notice


class Notifications:
    """The notifications of one subscriber. `channel`: the kind of the target, such as "slack"."""

    def __init__(self, metrics: Metrics, channel: str) -> None:
        self._metrics = metrics
        self._channel = channel

    @contextmanager
    def counting(self, notices: Sequence[Notice]) -> Iterator[None]:
        """Count `notices`, which are sent inside the block, each time that it ends: sent; unavailable or rejected, by what it
        raises; otherwise failed, also if it is cancelled."""
        try:
            yield
        except Unavailable:
            self._count(notices, "unavailable")
            raise
        except Undeliverable:
            self._count(notices, "rejected")
            raise
        except BaseException:
            self._count(notices, "failed")
            raise
        self._count(notices, "sent")

    def _count(self, notices: Sequence[Notice], outcome: str) -> None:
        for notice in notices:
            labels = {"rule": notice.labels.get("rule", ""), "severity": notice.severity, "status": notice.status}
            self._metrics.counter("hub.alert.notifications", channel=self._channel, outcome=outcome, **labels).add()
