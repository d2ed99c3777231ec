"""The sources of settings, and defaults shared by several commands. The settings themselves are in the package `settings`.

Precedence: command line option, environment variable (HUB_*), file (`hub.toml` in the current folder, or the file in HUB_CONFIG),
default. Rule: this module has no expensive imports; the package `settings` is imported only if something is configured.
"""

import os
from pathlib import Path

from .errors import ConfigurationError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9092
DEFAULT_BOOTSTRAP = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
DEFAULT_DATA = Path("hub-data")
DEFAULT_HEALTH_PORT = 9464
"""Of the health pages of `hub up`: the port that OpenTelemetry's exporters for Prometheus use by default."""

PREFIX = "HUB_"
FILE = "hub.toml"
FILE_VARIABLE = "HUB_CONFIG"
LOG_LEVEL_VARIABLE = "HUB_LOG_LEVEL"
LOG_LEVELS = ("debug", "info", "warning", "error")
ON_THE_SPOT = frozenset({"HUB_BOOTSTRAP", LOG_LEVEL_VARIABLE, "HUB_REQUIRE"})
"""Variables that are read where they are used (by options, and by the tests); they do not require the import of settings."""


def settings_file() -> Path:
    """The path of the settings file, which need not exist."""
    return Path(os.environ.get(FILE_VARIABLE) or FILE)


def variables() -> dict[str, str]:
    """The environment variables that begin with HUB_, with names in capitals."""
    return {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}


def check_log_level(level: str, where: str) -> str:
    """`level` in lower case. Raises ConfigurationError, which names its origin `where` and the valid levels."""
    if level.lower() not in LOG_LEVELS:
        raise ConfigurationError(f"{where}: {level!r} is not a log level. It must be one of {', '.join(LOG_LEVELS)}.")
    return level.lower()


def is_configured() -> bool:
    """Whether there are settings to load; the import of the package `settings` takes a quarter of a second."""
    return bool(variables().keys() - ON_THE_SPOT) or settings_file().exists()
