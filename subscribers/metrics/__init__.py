"""The subscriber `metrics`: counts and durations from lifecycle events. See README.md."""

from .measurements import Measurement, initial_measurements, measurements_of
from .subscriber import EventRecorder, MetricsSettings, MetricsSubscriber

__all__ = [
    "EventRecorder",
    "Measurement",
    "MetricsSettings",
    "MetricsSubscriber",
    "initial_measurements",
    "measurements_of",
]
