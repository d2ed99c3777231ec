"""Checking configured subscribers before anything runs."""

import threading
from typing import Any

from ..errors import ConfigurationError
from .config import parse_configs, plan
from .discovery import PluginBroken, load

IMPORT_SECONDS = 10.0
"""A plugin whose import takes longer is left to the delivery service, which waits for it apart from the others."""


def check_subscribers(entries: list[dict[str, Any]], source: str) -> None:
    """Raise ConfigurationError for what is wrong with these entries of `[[subscribers]]`: plugin, settings, delivery, filter.

    `source`: where they come from (a file, a variable, an option); the message begins with it. A plugin whose import raises or
    hangs is not wrong here: it may work later.
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
