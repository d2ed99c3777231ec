"""Benchmarks: of a hub, of its delivery, of the engine alone, and of the broker alone. They report figures and assert nothing."""

from .broker import measure_broker
from .cleanup import subscriber_of_benchmark
from .delivery import FAILURES, measure_reading, until_settled
from .engine import measure_engine
from .figures import all_completed, conditions, cpu_us_per_task, disk_bytes_per_task, figures_of, percentile, spread
from .idle import ProcessUse, cpu_seconds, families, family, measure_idle, total, until_calm
from .measures import BENCHMARKS, NOOP, Benchmark, Round
from .memory import fill, first_result, pss_bytes, snapshot_bytes, stored_bytes
from .suite import Column, Figure, percentiles, rates, render_markdown

REGISTRY = "hub.bench.tasks:tasks"
"""The tasks that the worker of a benchmark runs."""
SUBSCRIBER = "hub.bench.tasks:nothing"
"""The subscriber that the delivery process of a benchmark runs."""

__all__ = [
    "BENCHMARKS",
    "FAILURES",
    "NOOP",
    "REGISTRY",
    "SUBSCRIBER",
    "Benchmark",
    "Column",
    "Figure",
    "ProcessUse",
    "Round",
    "all_completed",
    "conditions",
    "cpu_seconds",
    "cpu_us_per_task",
    "disk_bytes_per_task",
    "families",
    "family",
    "figures_of",
    "fill",
    "first_result",
    "measure_broker",
    "measure_engine",
    "measure_idle",
    "measure_reading",
    "percentile",
    "percentiles",
    "pss_bytes",
    "rates",
    "render_markdown",
    "snapshot_bytes",
    "spread",
    "stored_bytes",
    "subscriber_of_benchmark",
    "total",
    "until_calm",
    "until_settled",
]
