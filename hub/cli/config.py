"""`hub config`: all settings with value, origin and meaning."""

from typing import Any

import typer

from .shell import Json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(config)


def config(as_json: Json = False) -> None:
    """Show all settings: value, origin and meaning. Secrets of subscribers are masked.

    Precedence: command line option, environment variable (HUB_SLOTS=16), file (slots = 16 in hub.toml, or in the file in
    HUB_CONFIG), default. Exit codes: 0 success; 2 a setting of the hub or of a subscriber is invalid."""
    from ..delivery import check_subscribers, masked_entry
    from ..settings import Settings, setting_names
    from .render import print_json
    from .tables import print_table

    settings = Settings.load()
    check_subscribers(settings.subscribers, origin_of("subscribers"))
    values = settings.model_dump(mode="json") | {"subscribers": [masked_entry(entry) for entry in settings.subscribers]}
    rows = []
    for name in setting_names():
        section, _, field = name.partition(".")
        model, value = (getattr(settings, section), values[section][field]) if field else (settings, values[name])
        about = type(model).model_fields[field or name]
        origin = origin_of(name) if (field or name) in model.model_fields_set else "default"
        rows.append({"setting": name, "value": value, "from": origin, "about": about.description})
    if as_json:
        print_json(rows)
    else:
        table = [[_plain(value) for value in row.values()] for row in rows]
        print_table(("SETTING", "VALUE", "FROM", "ABOUT"), table, text=True, shorten=("VALUE", "FROM"))


def origin_of(setting: str) -> str:
    """The origin of a configured setting: an environment variable (its own, or that of its section), or the file."""
    from .. import config as sources
    from ..settings import variable_of

    candidates = (variable_of(setting), variable_of(setting.partition(".")[0]))
    given = sources.variables()
    return next((name for name in candidates if name in given), str(sources.settings_file()))


def _plain(value: Any) -> Any:
    """A float without a superfluous fraction; other values unchanged."""
    return f"{value:.15g}" if isinstance(value, float) else value
