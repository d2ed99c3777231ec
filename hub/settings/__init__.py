"""All settings with unit, default and description: `Settings`, read from HUB_* variables and `hub.toml`."""

from .sections import SECTIONS, AnalyticsSection, EngineSection, HealthSection, MetricsSection, OtlpSection, TopicsSection
from .settings import Settings, setting_names, variable_of

__all__ = [
    "SECTIONS",
    "AnalyticsSection",
    "EngineSection",
    "HealthSection",
    "MetricsSection",
    "OtlpSection",
    "Settings",
    "TopicsSection",
    "setting_names",
    "variable_of",
]
