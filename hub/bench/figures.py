"""Computes one JSON object from rounds: figures, their spread, and the conditions of the measurement."""

import os
import platform
import statistics
from importlib.metadata import version
from typing import Any

from ..kafka import ClusterStorage
from .measures import Round

LIBRARIES = ("aiokafka", "msgspec", "uvloop")


def percentile(values: list[float], share: float) -> float:
    """The quantile `share` (0 to 1) of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def figures_of(name: str, rounds: list[Round]) -> dict[str, Any]:
    """The figures of a benchmark of a hub. Rates and seconds are medians of the rounds; percentiles are over all rounds."""
    rates = [one.tasks / one.seconds for one in rounds]
    durations = [value for one in rounds for value in one.durations_ms]
    figures: dict[str, Any] = {
        "bench": name,
        "tasks": rounds[0].tasks,
        "tasks_per_second": round(statistics.median(rates), 1),
        "seconds": round(statistics.median(one.seconds for one in rounds), 4),
        "rounds": len(rounds),
        "spread": {"tasks_per_second": spread(rates), "seconds": spread([one.seconds for one in rounds])},
    }
    if durations:
        figures["p50_ms"] = round(percentile(durations, 0.50), 3)
        figures["p99_ms"] = round(percentile(durations, 0.99), 3)
        figures["spread"]["p50_ms"] = spread([percentile(one.durations_ms, 0.50) for one in rounds])
        figures["spread"]["p99_ms"] = spread([percentile(one.durations_ms, 0.99) for one in rounds])
    return figures


def all_completed(rounds: list[Round]) -> bool:
    """Whether every task of every round was reported as completed exactly once."""
    return all(one.completed == one.tasks for one in rounds)


def cpu_us_per_task(before: dict[str, float], after: dict[str, float], tasks: int) -> dict[str, float]:
    """CPU time per task by role, in microseconds, from CPU seconds before and after."""
    return {role: round((seconds - before.get(role, 0.0)) / tasks * 1e6, 1) for role, seconds in after.items()}


def disk_bytes_per_task(before: ClusterStorage, after: ClusterStorage, tasks: int) -> dict[str, float]:
    """Growth of each topic that grew, per task and for one replica, in bytes, and their sum as `total`; empty if the brokers do
    not report sizes."""
    if not (before.dirs and after.dirs):
        return {}
    topics = sorted({place.topic for place in after.sizes})
    grown = {topic: after.bytes_of(topic) - before.bytes_of(topic) for topic in topics}
    figures = {topic: round(size / tasks, 1) for topic, size in grown.items() if size}
    return figures | {"total": round(sum(grown.values()) / tasks, 1)}


def system() -> str:
    """Operating system, version and CPU architecture, without the kernel build."""
    release = platform.release().partition("-")[0]
    libc = " ".join(platform.libc_ver())
    return ", ".join(part for part in (f"{platform.system()} {release}", platform.machine(), libc.strip()) if part)


def conditions() -> dict[str, Any]:
    """Machine and software versions."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "platform": system(),
        "versions": {
            "python": platform.python_version(),
            "taskhub": version("taskhub"),
            **{name: version(name) for name in LIBRARIES},
        },
    }
