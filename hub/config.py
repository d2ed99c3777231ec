"""Where settings come from, and the defaults that more than one command shares. What can be set: the package settings.

A flag wins over the environment (HUB_*), that over the file (`hub.toml` in the current folder, or what HUB_CONFIG names), and
that over the default. Rule: this module costs nothing to import; that package is loaded only where something is configured.
"""

import os
from pathlib import Path

from .errors import ConfigurationError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9092
DEFAULT_BOOTSTRAP = f"{DEFAULT_HOST}:{DEFAULT_PORT}"
DEFAULT_DATA = Path("hub-data")

PREFIX = "HUB_"
FILE = "hub.toml"
FILE_VARIABLE = "HUB_CONFIG"
LOG_LEVEL_VARIABLE = "HUB_LOG_LEVEL"
LOG_LEVELS = ("debug", "info", "warning", "error")
ON_THE_SPOT = frozenset({"HUB_BOOTSTRAP", LOG_LEVEL_VARIABLE, "HUB_REQUIRE"})
"""Read where they are used (the options' own variables, the tests' demand for Kafka): alone they need no settings."""


def settings_file() -> Path:
    """The file with settings, whether it exists or not."""
    return Path(os.environ.get(FILE_VARIABLE) or FILE)


def variables() -> dict[str, str]:
    """The variables of the environment that begin with HUB_, their names in capitals."""
    return {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}


def check_log_level(level: str, where: str) -> str:
    """`level` in small letters. Raises ConfigurationError that names `where` it was given, and the levels that there are."""
    if level.lower() not in LOG_LEVELS:
        raise ConfigurationError(f"{where}: {level!r} is not a log level. It must be one of {', '.join(LOG_LEVELS)}.")
    return level.lower()


def is_configured() -> bool:
    """Is there anything to load? Settings cost a quarter of a second to import."""
    return bool(variables().keys() - ON_THE_SPOT) or settings_file().exists()
