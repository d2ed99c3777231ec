"""The figures of the process itself: CPU time, memory, uptime."""

import time
from collections.abc import Callable

from .registry import Registry


def observe_process(registry: Registry, monotonic: Callable[[], float] = time.monotonic, *, started: float | None = None) -> None:
    """Add `hub.process.*` of this process to each collection of `registry`. `psutil` is loaded by the first one. `started`: when
    the process started, a time of `monotonic`; default: now."""
    started = monotonic() if started is None else started
    registry.gauge("hub.process.up").set(1)
    cpu_time, memory, uptime = (
        registry.counter("hub.process.cpu.time"),
        registry.gauge("hub.process.memory"),
        registry.gauge("hub.process.uptime"),
    )

    def read() -> None:
        import psutil

        this = psutil.Process()
        times = this.cpu_times()
        cpu_time.follow(times.user + times.system)
        memory.set(this.memory_info().rss)
        uptime.set(monotonic() - started)

    registry.observe(read)
