"""Estimates when the waiting tasks of a queue will have been run, from how many arrived and ended lately."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

#: Rates are those of about this time (seconds); samples are taken at most at this interval.
WINDOW_SECONDS = 60.0
SAMPLE_SECONDS = 5.0


class _Sample(NamedTuple):
    at: float
    arrivals: dict[str, int]
    completions: dict[str, int]


class DrainTimes:
    """Estimates from successive totals. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def estimates(
        self, now: float, depths: Mapping[str, int], arrivals: Mapping[str, int], completions: Mapping[str, int]
    ) -> dict[str, float]:
        """Seconds until the waiting tasks (`depths`) have been run if tasks arrive and end as in the last minute, by queue:
        depth / (rate of completions - rate of arrivals). A queue that does not shrink has none; an empty one has 0."""
        samples = self._samples
        while len(samples) > 1 and now - samples[1].at >= WINDOW_SECONDS:
            samples.popleft()
        found = {queue: 0.0 for queue, depth in depths.items() if not depth}
        if samples and (seconds := now - samples[0].at) > 0:
            before = samples[0]
            for queue, depth in depths.items():
                ended = completions.get(queue, 0) - before.completions.get(queue, 0)
                arrived = arrivals.get(queue, 0) - before.arrivals.get(queue, 0)
                if depth and ended > arrived:
                    found[queue] = depth * seconds / (ended - arrived)
        if not samples or now - samples[-1].at >= SAMPLE_SECONDS:
            samples.append(_Sample(now, dict(arrivals), dict(completions)))
        return found
