"""Settings: what can be configured, with unit, default and reason."""

import os

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9092
DEFAULT_BOOTSTRAP = f"{DEFAULT_HOST}:{DEFAULT_PORT}"


def log_level() -> str:
    """HUB_LOG_LEVEL, or info."""
    return os.environ.get("HUB_LOG_LEVEL", "info")
