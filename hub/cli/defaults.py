"""Settings as defaults of options: what HUB_* and `hub.toml` say stands where a flag is not given (and in `--help`).

Commands are read by their attributes: typer brings a copy of click of its own, older versions of it use click itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..settings import Settings

PROCESSES = ("up", "broker", "engine", "worker", "delivery", "init")
"""Commands whose options are settings when they have the name of one. Of the others only what names the setting's variable."""
FLAG_ONLY = {("up", "bootstrap")}
"""`hub up` runs a broker of its own unless the flag is given: where clients look for one says nothing about that."""
TABLES = {("broker", "engine")}
"""`hub broker --engine` is a switch, and `[engine]` a table of settings."""


def apply_settings(command: Any, settings: "Settings") -> None:
    """Give `command` (of click) and those below it the settings that somebody made."""
    command.context_settings["default_map"] = _defaults(command, settings)


def _defaults(command: Any, settings: "Settings") -> dict[str, Any]:
    if hasattr(command, "commands"):
        return {name: _defaults(one, settings) for name, one in command.commands.items()}
    return {
        param.name: _plain(getattr(settings, param.name))
        for param in command.params
        if param.name in settings.model_fields_set and _is_setting(command.name, param)
    }


def _is_setting(command: str, param: Any) -> bool:
    if param.param_type_name != "option" or (command, param.name) in FLAG_ONLY | TABLES:
        return False
    return command in PROCESSES or bool(param.envvar)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value if isinstance(value, bool) else str(value)
