"""What can be configured, with unit, default and reason: fields of `Settings`, from HUB_* variables and `hub.toml`.

    # hub.toml                     # the same in the environment
    port = 9192                    # HUB_PORT=9192
    worker = ["app:tasks"]         # HUB_WORKER=app:tasks
    slots = 16                     # HUB_SLOTS=16

    [engine]
    retention_seconds = 60         # HUB_ENGINE_RETENTION_SECONDS=60

    [[subscribers]]                # see the package delivery
    use = "console"
    settings = { format = "json" }

Rules: defaults are those of the command line and of the rooms (tested); an unknown key is refused and the nearest known one
named.
"""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from ..config import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_DATA,
    DEFAULT_HOST,
    DEFAULT_PORT,
    FILE_VARIABLE,
    PREFIX,
    settings_file,
    variables,
)
from ..errors import ConfigurationError
from ..validation import fault_of, place_of
from .sections import SECTIONS, EngineSection, TopicsSection

Names = Annotated[list[str], NoDecode]
"""In the environment: separated by commas."""


class Settings(BaseSettings):
    """Every setting of a hub. `Settings.load()` reads them; fields that nobody set have their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    bootstrap: str = Field(
        DEFAULT_BOOTSTRAP,
        description="Where commands and processes find the broker, host:port[,host:port]: the embedded one, unless set.",
    )
    data: Path = Field(DEFAULT_DATA, description="Directory of the embedded broker's log and of snapshots.")
    host: str = Field(
        DEFAULT_HOST, description="Address the embedded broker listens on: this machine only, since it has no passwords."
    )
    port: int = Field(
        DEFAULT_PORT, ge=0, le=65535, description="Port the embedded broker listens on; Kafka's own. 0 takes a free one."
    )
    advertised_host: str | None = Field(
        None, description="Host that clients are given to connect to, where they cannot reach the one listened on."
    )
    partitions: int | None = Field(
        None,
        ge=1,
        description="Engine partitions, fixed when a hub is made. Unset: 1 embedded, where more gain nothing, 16 on Kafka.",
    )
    flush: str = Field(
        "always",
        description="When the embedded broker answers a write: always (on disk), interval:<ms>, os. Only always loses nothing.",
    )
    engines: int = Field(1, ge=1, description="Engine processes of `hub up`; more than one run apart from the broker.")
    separate_engine: bool = Field(
        False,
        description="Run the engine apart from the broker: it then has a processor of its own, and each batch a longer way.",
    )
    worker: Names = Field([], description="Tasks that `hub up` runs, as module:registry.")
    workers: int = Field(
        1, ge=1, description="Worker processes for each of them; more than one pays off for work in Python itself."
    )
    pool: str = Field("default", description="Pool of workers that a worker belongs to.")
    queue: Names = Field(["default"], description="Queues that a worker serves.")
    slots: int = Field(64, ge=1, description="Tasks that one worker runs at once; most tasks wait for others.")
    lease_seconds: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="Seconds of silence after which a worker counts as dead: longer than the pauses of its process.",
    )
    grace_seconds: float = Field(30.0, ge=0, description="Seconds that running tasks have to end in a drain.")
    wait: float = Field(5.0, ge=0, description="Seconds that a process waits for the broker and its topics at its start.")
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="What is logged: debug, info, warning or error; unset, info, and warning for what `hub up` starts."
    )
    subscribers: list[dict[str, Any]] = Field(
        [], description="Subscribers that `hub delivery` runs, each with use, id, settings, filter, delivery, start_from."
    )

    engine: EngineSection = Field(EngineSection(), description="What the engine keeps, and for how long.")
    topics: TopicsSection = Field(TopicsSection(), description="What the topics keep.")

    @field_validator("worker", "queue", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_small_letters(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before what `load` read from the file."""
        return (env_settings, init_settings)

    @classmethod
    def load(cls) -> "Settings":
        """From the environment and the file. Raises ConfigurationError with the place and, for a misspelt key, the right one."""
        path = settings_file()
        content = _read(path)
        _check_keys(path, content)
        for name in variables():
            key = name.removeprefix(PREFIX).lower()
            near = _nearest(key, [one.replace(".", "_") for one in setting_names()], 0.8)
            if near and key != near:  # what looks like none of ours may be of another program
                raise ConfigurationError(f"The variable {name} is not a setting. Did you mean {PREFIX}{near.upper()}?")
        try:
            return cls(**_with_sections(content))
        except ValidationError as error:
            raise ConfigurationError(_sentence(path, error)) from None
        except SettingsError as error:  # only a variable is parsed; what is in it may be secret
            raise ConfigurationError(f"The variable {_unparsed(error)} must be JSON.") from None


def setting_names() -> list[str]:
    """Every setting, those of a section as `section.field`."""
    return [
        f"{name}.{field}" if name in SECTIONS else name
        for name in Settings.model_fields
        for field in (SECTIONS[name].model_fields if name in SECTIONS else ("",))
    ]


def variable_of(setting: str) -> str:
    """The variable of the environment that sets `setting`."""
    return PREFIX + setting.replace(".", "_").upper()


def _unparsed(error: SettingsError) -> str:
    named = re.search(r'field "(\w+)"', str(error))
    return variable_of(named[1]) if named else str(error)


def _with_sections(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the variables of the sections' fields, which win."""
    merged, given = dict(content), variables()
    for setting in setting_names():
        section, _, field = setting.partition(".")
        if field and (value := given.get(variable_of(setting))) is not None:
            merged[section] = {**merged.get(section, {}), field: value}
    return merged


def _check_keys(path: Path, content: dict[str, Any]) -> None:
    _check_known(path, "", content, list(Settings.model_fields))
    for section, model in SECTIONS.items():
        table = content.get(section, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: {section} must be a table: [{section}] (it is {table!r}).")
        _check_known(path, f"{section}.", table, list(model.model_fields))


def _check_known(path: Path, where: str, table: dict[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            near = _nearest(key, known, 0.6)
            hint = f"Did you mean {where}{near}?" if near else f"Known are {', '.join(known)}."
            raise ConfigurationError(f"{path}: {where}{key} is not a setting. {hint}")


def _nearest(key: str, known: list[str], cutoff: float) -> str | None:
    near = get_close_matches(key.lower().replace("-", "_"), known, 1, cutoff)
    return near[0] if near else None


def _read(path: Path) -> dict[str, Any]:
    if FILE_VARIABLE not in variables() and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}.") from error


def _sentence(path: Path, error: ValidationError) -> str:
    """The first fault with its place. The value of a subscriber's setting is left out: it may be secret."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"][: 2 if first["loc"][0] in SECTIONS else 1])
    variable = variable_of(key)
    where = f"The variable {variable}" if variable in variables() else f"{path}: {key}"
    place = place_of(first["loc"][key.count(".") + 1 :], where)
    value = f" (it is {first['input']!r})" if first["loc"][0] != "subscribers" and first["type"] != "value_error" else ""
    return f"{place}: {fault_of(first)}{value}."
