"""`hub config`: the settings, where each comes from, and what they are for."""

import typer

from .shell import Json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(config)


def config(as_json: Json = False) -> None:
    """Show every setting: its value, where that comes from, and what it is for.

    A flag wins over the environment (HUB_SLOTS=16), that over the file (slots = 16 in hub.toml, or in the file that HUB_CONFIG
    names), that over the default."""
    from .. import config as sources
    from ..settings import Settings
    from .render import print_json, print_table

    settings = Settings.load()
    values = settings.model_dump(mode="json")
    variables = sources.variables()
    rows = []
    for name, field in Settings.model_fields.items():
        variable = sources.PREFIX + name.upper()
        origin = "default"
        if name in settings.model_fields_set:
            origin = variable if variable in variables else str(sources.settings_file())
        rows.append({"setting": name, "value": values[name], "from": origin, "about": field.description})
    if as_json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
