"""Finds plugins by the name of an entry point or by a reference "module:Class"."""

import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from subscribers import Subscriber

from ..errors import ConfigurationError, HubError, code_location

ENTRY_POINT_GROUP = "taskhub.subscribers"


class PluginBroken(HubError):
    """The import of a plugin raised an exception. It is retried later and does not affect other subscribers."""


def available() -> dict[str, EntryPoint]:
    """The installed plugins by name; none is imported."""
    return {one.name: one for one in entry_points(group=ENTRY_POINT_GROUP)}


def load(use: str) -> type[Subscriber[Any]]:
    """The class that `use` names. Raises ConfigurationError if it does not exist, PluginBroken if its import raises."""
    try:
        found = _by_reference(use) if ":" in use else _by_name(use)
    except ConfigurationError:
        raise
    except Exception as error:
        raise PluginBroken(f"the import of {use!r} raised {type(error).__name__}: {error}{code_location(error)}") from error
    if not (isinstance(found, type) and issubclass(found, Subscriber)):
        raise ConfigurationError(
            f"subscribers: {use!r} is not a Subscriber class: derive it from Subscriber, or decorate a function with @subscriber"
        )
    return found


def _by_name(use: str) -> Any:
    known = available()
    if use not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(f'subscribers: no plugin is called {use!r}; installed: {names}; or use "module:Class"')
    return known[use].load()


def _by_reference(use: str) -> Any:
    module_name, _, path = use.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for a worker's module: an installed command does not search the current folder
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # The module exists; another one that it imports does not.
        raise ConfigurationError(f"subscribers: {use!r}: no module {error.name!r} was found in {folder} or on the path") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"subscribers: {use!r}: module {module_name} has no {path}")
        found = getattr(found, part)
    return found
