"""`hub config`: the settings, where each comes from, and what they are for."""

from typing import Any

import typer

from .shell import Json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(config)


def config(as_json: Json = False) -> None:
    """Show every setting: its value, where that comes from, and what it is for. Secrets of subscribers are masked.

    A flag wins over the environment (HUB_SLOTS=16), that over the file (slots = 16 in hub.toml, or in the file that HUB_CONFIG
    names), that over the default. Exit codes: 0 shown; 2 a setting, or one of a subscriber's, is wrong."""
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
    """Where a setting that somebody made comes from: a variable (its own, or that of its whole section), or the file."""
    from .. import config as sources
    from ..settings import variable_of

    candidates = (variable_of(setting), variable_of(setting.partition(".")[0]))
    given = sources.variables()
    return next((name for name in candidates if name in given), str(sources.settings_file()))


def _plain(value: Any) -> Any:
    """A number as one would write it."""
    return f"{value:.15g}" if isinstance(value, float) else value
