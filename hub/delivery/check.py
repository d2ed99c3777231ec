"""Checks configured subscribers before anything is started."""

import threading
from typing import Any

from ..errors import ConfigurationError
from .config import parse_configs, plan
from .discovery import PluginBroken, load

IMPORT_SECONDS = 10.0
"""A plugin whose import takes longer is not checked here; the delivery service waits for it without delaying the others."""


def check_subscribers(entries: list[dict[str, Any]], source: str) -> None:
    """Raise ConfigurationError for all faults in these entries of `[[subscribers]]`: plugin, settings, delivery, filter.

    `source`: their origin (a file, a variable, an option), with which the message begins. A plugin whose import raises or hangs
    is not a fault: the import is retried later.
    """
    wrong: list[ConfigurationError] = []

    def check() -> None:
        try:
            _check(entries)
        except ConfigurationError as error:
            wrong.append(error)

    checking = threading.Thread(target=check, name="check-subscribers", daemon=True)
    checking.start()
    checking.join(IMPORT_SECONDS)
    if wrong:
        raise ConfigurationError(f"{source}: {wrong[0]}")


def _check(entries: list[dict[str, Any]]) -> None:
    faults = []
    for config in parse_configs(entries):
        try:
            plan(config, load(config.use))
        except ConfigurationError as error:
            faults.append(str(error))
        except PluginBroken:
            continue
    if faults:
        raise ConfigurationError("; ".join(faults))
