"""Checks configured subscribers before anything is started."""

import threading
from functools import partial
from typing import Any

from ..child_process import EndedEarly, answer_of_fork
from ..errors import ConfigurationError
from .config import SubscriberConfig, parse_configs, plan
from .discovery import PluginBroken, load
from .isolation import is_isolated

IMPORT_SECONDS = 10.0
"""A plugin whose import takes longer is not checked here; the delivery service waits for it without delaying the others."""


def check_subscribers(entries: list[dict[str, Any]], source: str) -> None:
    """Raise ConfigurationError for all faults in these entries of `[[subscribers]]`: plugin, settings, delivery, filter.

    `source`: their origin (a file, a variable, an option), with which the message begins. A plugin whose import raises, hangs or
    ends its process is not a fault: the import is retried later. Plugins that run in processes of their own are imported in
    forked processes: call this before this process has threads."""
    try:
        configs = parse_configs(entries)
        isolated = [one for one in configs if is_isolated(one)]
        faults = [fault for one in isolated if (fault := _fault_in_fork(one))]
        faults += _faults_in_thread([one for one in configs if one not in isolated])
    except ConfigurationError as error:
        faults = [str(error)]
    if faults:
        raise ConfigurationError(f"{source}: {'; '.join(faults)}")


def _fault_in_fork(config: SubscriberConfig) -> str:
    try:
        return answer_of_fork(partial(_fault_of, config), IMPORT_SECONDS) or ""
    except EndedEarly:
        return ""


def _faults_in_thread(configs: list[SubscriberConfig]) -> list[str]:
    faults: list[str] = []

    def check() -> None:
        faults.extend(fault for one in configs if (fault := _fault_of(one)))

    checking = threading.Thread(target=check, name="check-subscribers", daemon=True)
    checking.start()
    checking.join(IMPORT_SECONDS)
    return list(faults)


def _fault_of(config: SubscriberConfig) -> str:
    """What is wrong with the configuration; empty if it is valid, or cannot be checked."""
    try:
        plan(config, load(config.use))
    except ConfigurationError as error:
        return str(error)
    except PluginBroken:
        pass
    return ""
