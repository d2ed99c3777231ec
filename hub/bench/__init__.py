"""Benches: rounds against a hub, the engine alone, the broker alone, and how figures are shown. Nothing here asserts a time."""

from .broker import measure_broker
from .engine import measure_engine
from .figures import all_completed, conditions, cpu_us_per_task, figures_of, percentile, spread
from .measures import BENCHMARKS, NOOP, Benchmark, Round
from .suite import Column, Figure, percentiles, rates, render_markdown

REGISTRY = "hub.bench.tasks:tasks"
"""What a worker of a bench runs."""
SUBSCRIBER = "hub.bench.tasks:nothing"
"""What the delivery process of a bench runs."""

__all__ = [
    "BENCHMARKS",
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
    "percentile",
    "percentiles",
    "rates",
    "render_markdown",
    "spread",
]
