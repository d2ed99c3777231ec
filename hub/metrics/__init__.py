"""Metrics of the hub's processes: values, the registry of a process, snapshots, and their export. See README.md.

`prometheus`, `otlp` and `quantiles` are modules to import by name.
"""

from .merging import merged
from .plugins import PluginMetrics
from .registry import Registry, histogram_of
from .snapshot import (
    ExemplarPoint,
    InstrumentSamples,
    MetricsSnapshot,
    Point,
    decode_snapshot,
    encode_snapshot,
)
from .values import Counter, Exemplar, Gauge, Histogram

__all__ = [
    "Counter",
    "Exemplar",
    "ExemplarPoint",
    "Gauge",
    "Histogram",
    "InstrumentSamples",
    "MetricsSnapshot",
    "PluginMetrics",
    "Point",
    "Registry",
    "decode_snapshot",
    "encode_snapshot",
    "histogram_of",
    "merged",
]
