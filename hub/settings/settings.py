"""All settings with unit, default and description: the fields of `Settings`, read from HUB_* variables and `hub.toml`.

    # hub.toml                     # the same in the environment
    port = 9192                    # HUB_PORT=9192
    worker = ["app:tasks"]         # HUB_WORKER=app:tasks
    slots = 16                     # HUB_SLOTS=16

    [engine]
    retention_seconds = 60         # HUB_ENGINE_RETENTION_SECONDS=60

    [[subscribers]]                # see the package delivery
    use = "console"
    settings = { format = "json" }

Defaults equal those of the command line and of the packages (tested). An unknown key is rejected with the most similar valid
one.
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
from .sections import SECTIONS, AnalyticsSection, EngineSection, HealthSection, MetricsSection, OtlpSection, TopicsSection

Names = Annotated[list[str], NoDecode]
"""A list, comma-separated in environment variables."""


class Settings(BaseSettings):
    """All settings of a hub. `Settings.load()` reads them; unset fields have their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    bootstrap: str = Field(
        DEFAULT_BOOTSTRAP,
        description="Addresses of the broker, host:port[,host:port]. Unset: the embedded broker.",
    )
    data: Path = Field(DEFAULT_DATA, description="Directory for the data of the embedded broker and for snapshots.")
    host: str = Field(
        DEFAULT_HOST,
        description="Address on which the embedded broker listens: loopback by default, because it has no authentication.",
    )
    port: int = Field(
        DEFAULT_PORT,
        ge=0,
        le=65535,
        description="Port on which the embedded broker listens; Kafka's default. 0 selects a free port.",
    )
    advertised_host: str | None = Field(
        None, description="Host that the embedded broker advertises to clients, if it differs from its listen address."
    )
    partitions: int | None = Field(
        None,
        ge=1,
        description="Engine partitions, fixed when a hub is created. Unset: 1 embedded (more have no benefit), 16 on Kafka.",
    )
    flush: str = Field(
        "always",
        description="When writes are synced: always (before the acknowledgement), interval:<ms>, os. Only always loses nothing.",
    )
    engines: int = Field(
        1, ge=1, description="Number of engine processes of `hub up`; more than one run outside the broker's process."
    )
    separate_engine: bool = Field(
        False,
        description="Run the engine in a separate process: it can use another CPU core, but each batch has a higher latency.",
    )
    worker: Names = Field([], description="Task registries that the workers of `hub up` run, as module:registry.")
    workers: int = Field(
        1, ge=1, description="Number of worker processes per registry; more than one helps with CPU-bound Python code."
    )
    pool: str = Field("default", description="Pool to which a worker belongs.")
    queue: Names = Field(["default"], description="Queues that a worker serves.")
    slots: int = Field(
        64, ge=1, description="Number of tasks that a worker runs concurrently; most tasks spend their time waiting."
    )
    lease_seconds: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="Seconds without a heartbeat after which a worker is lost: longer than any pause of its process.",
    )
    grace_seconds: float = Field(30.0, ge=0, description="Seconds that running tasks have to finish while a worker drains.")
    wait: float = Field(5.0, ge=0, description="Seconds that a process waits for the broker and its topics at startup.")
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="Log level: debug, info, warning or error. Unset: info, and warning for processes started by `hub up`."
    )
    health_host: str = Field(
        DEFAULT_HOST, description="Address on which a process, or `hub up`, serves its health pages and metrics."
    )
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of the health pages; 0: none. Unset: 9464 for `hub up`, and none for a process started alone.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of log records: text (formatted on a terminal, else key=value), or json, one object per line."
    )
    subscribers: list[dict[str, Any]] = Field(
        [], description="Subscribers that `hub delivery` runs, each with use, id, settings, filter, delivery, start_from."
    )
    rules: list[dict[str, Any]] = Field(
        [], description="Rules that `hub analytics` evaluates, each with name, kind, match, for_each, window, actions."
    )

    engine: EngineSection = Field(EngineSection(), description="Limits and retention of the engine.")
    topics: TopicsSection = Field(TopicsSection(), description="Retention of the topics.")
    health: HealthSection = Field(HealthSection(), description="Limits beyond which a process is not ready.")
    otlp: OtlpSection = Field(OtlpSection(), description="Export of traces, logs and metrics to a collector.")
    metrics: MetricsSection = Field(MetricsSection(), description="Figures of tasks and workflows.")
    analytics: AnalyticsSection = Field(AnalyticsSection(), description="The process that evaluates rules.")

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
        """The environment takes precedence over the values that `load` read from the file."""
        return (env_settings, init_settings)

    @classmethod
    def load(cls) -> "Settings":
        """Read the settings from environment and file. Raises ConfigurationError with the location and, for a misspelt key,
        the most similar valid one."""
        path = settings_file()
        content = _read(path)
        _check_keys(path, content)
        for name in variables():
            key = name.removeprefix(PREFIX).lower()
            near = _nearest(key, [one.replace(".", "_") for one in setting_names()], 0.8)
            if near and key != near:  # a variable without a similar setting may belong to another program
                raise ConfigurationError(f"The variable {name} is not a setting. Did you mean {PREFIX}{near.upper()}?")
        try:
            return cls(**_with_sections(content))
        except ValidationError as error:
            raise ConfigurationError(_sentence(path, error)) from None
        except SettingsError as error:  # only variables are parsed as JSON; the value may be secret
            raise ConfigurationError(f"The variable {_unparsed(error)} must be JSON.") from None


def setting_names() -> list[str]:
    """The names of all settings, those of a section as `section.field`."""
    return [
        f"{name}.{field}" if name in SECTIONS else name
        for name in Settings.model_fields
        for field in (SECTIONS[name].model_fields if name in SECTIONS else ("",))
    ]


def variable_of(setting: str) -> str:
    """The environment variable for `setting`."""
    return PREFIX + setting.replace(".", "_").upper()


def _unparsed(error: SettingsError) -> str:
    named = re.search(r'field "(\w+)"', str(error))
    return variable_of(named[1]) if named else str(error)


def _with_sections(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the variables of the sections' fields, which take precedence."""
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
    """The first error with its location. Values that may be secret are omitted: of subscribers' settings, and of headers."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"][: 2 if first["loc"][0] in SECTIONS else 1])
    variable = variable_of(key)
    where = f"The variable {variable}" if variable in variables() else f"{path}: {key}"
    place = place_of(first["loc"][key.count(".") + 1 :], where)
    shown = key not in ("subscribers", "otlp.headers") and first["type"] != "value_error"
    value = f" (it is {first['input']!r})" if shown else ""
    return f"{place}: {fault_of(first)}{value}."
