"""Settings from HUB_* and `hub.toml` as defaults of command line options; `--help` shows them.

Commands are accessed by attributes only: newer versions of typer include a copy of click, older ones use click itself.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..settings import Settings

PROCESSES = ("up", "broker", "engine", "worker", "delivery", "analytics", "init")
"""Commands whose options take the setting of the same name. In other commands only options with the setting's environment
variable do."""
FLAG_ONLY = {("up", "bootstrap")}
"""Without this option `hub up` runs the embedded broker; the address that clients use does not change this."""
TABLES = {("broker", "engine"), ("up", "analytics")}
"""Switches whose names are also those of tables of settings."""


def apply_settings(command: Any, settings: "Settings") -> None:
    """Set the configured settings as defaults of `command` (a click command) and its subcommands."""
    command.context_settings["default_map"] = _defaults(command, settings)


def _defaults(command: Any, settings: "Settings") -> dict[str, Any]:
    if hasattr(command, "commands"):
        return {name: _defaults(one, settings) for name, one in command.commands.items()}
    return {
        param.name: _plain(getattr(settings, param.name))
        for param in command.params
        if param.name in settings.model_fields_set and _is_setting(command.name, param)
    }


def configured_options(command: str, names: Iterable[str], settings: "Settings") -> dict[str, Any]:
    """The configured settings among the options of a process, for a direct call of its function."""
    return {
        name: getattr(settings, name)
        for name in names
        if name in settings.model_fields_set and (command, name) not in FLAG_ONLY | TABLES
    }


def _is_setting(command: str, param: Any) -> bool:
    if param.param_type_name != "option" or (command, param.name) in FLAG_ONLY | TABLES:
        return False
    return command in PROCESSES or bool(param.envvar)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value if isinstance(value, bool) else str(value)
