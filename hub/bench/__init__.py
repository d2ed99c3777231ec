"""Benchmarks: of a hub, of its delivery, of the engine alone, and of the broker alone. They report figures and assert nothing."""

from .broker import measure_broker
from .delivery import FAILURES, measure_reading, until_settled
from .engine import measure_engine
from .figures import all_completed, conditions, cpu_us_per_task, figures_of, percentile, spread
from .measures import BENCHMARKS, NOOP, Benchmark, Round
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
    "Round",
    "all_completed",
    "conditions",
    "cpu_us_per_task",
    "figures_of",
    "measure_broker",
    "measure_engine",
    "measure_reading",
    "percentile",
    "percentiles",
    "rates",
    "render_markdown",
    "spread",
    "until_settled",
]
