"""The configuration of a subscriber, and its conversion to a checked plan.

    [[subscribers]]
    use = "console"            # the name of an entry point (`taskhub.subscribers`), or "module:Class"
    id = "console"             # names the consumer group hub.sub.<id> and the dead letters hub.dlq.<id>
    settings = { format = "json" }

Rule: faults are reported at the start, with the path of the field.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from subscribers import Delivery, F, Filter, Subscriber, SubscriberSettings, parse_filter

from ..errors import ConfigurationError
from ..telemetry import conceal, masked
from ..validation import fault_of, place_of
from .secrets import secrets_in, secrets_of
from .type_rules import TypeRule, check_patterns, read_rules

ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,200}")


class SubscriberConfig(BaseModel):
    """One entry of `[[subscribers]]`.

    `start_from`: where this id begins to read at its first start; later starts continue at the committed offsets. `delivery`
    overrides fields of the plugin's `Delivery`; `filter` (JSON of the CloudEvents filter dialect) applies in addition to that
    of the plugin. `types`: fields of `Delivery` for some event types (see there). `isolation`: "process" runs the subscriber in a
    process of its own, "thread" in a thread of the process of delivery; by default built-in subscribers run in threads, others in
    processes. `memory_bytes_max`: resident memory above which its process is ended and started again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: str
    id: str = ""
    settings: dict[str, Any] = {}
    start_from: Literal["latest", "earliest"] = "latest"
    delivery: dict[str, Any] = {}
    filter: dict[str, Any] | None = None
    types: dict[str, dict[str, Any]] = {}
    isolation: Literal["process", "thread"] | None = None
    memory_bytes_max: int = Field(default=1 << 30, ge=16 << 20)

    @model_validator(mode="before")
    @classmethod
    def _id_from_use(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("id") and isinstance(values.get("use"), str):
            return {**values, "id": re.sub(r"[^A-Za-z0-9._-]", "-", values["use"])}
        return values

    @field_validator("id")
    @classmethod
    def _id_is_a_topic_name(cls, value: str) -> str:
        if not ID_PATTERN.fullmatch(value):
            raise ValueError("must consist of at most 200 letters, digits, '.', '_' and '-'")
        return value

    @property
    def group(self) -> str:
        """The consumer group of this instance."""
        return f"hub.sub.{self.id}"

    @property
    def dead_letter_topic(self) -> str:
        """The topic for events that could not be delivered."""
        return f"hub.dlq.{self.id}"


class SubscriberPlan(NamedTuple):
    """A checked subscriber: everything that is needed to run it. `types`: rules for some event types; `replay`: whether its
    events are those of a replay (`meta.replay`)."""

    config: SubscriberConfig
    plugin: type[Subscriber[Any]]
    settings: SubscriberSettings
    delivery: Delivery
    filter: Filter | None
    types: tuple[TypeRule, ...] = ()
    replay: bool = False


def parse_configs(entries: Any) -> list[SubscriberConfig]:
    """The configurations in `entries` (a list of tables). Raises ConfigurationError with the path of the invalid field."""
    if not isinstance(entries, list):
        raise ConfigurationError("subscribers: must be a list of tables")
    configs = []
    for index, entry in enumerate(entries):
        try:
            configs.append(entry if isinstance(entry, SubscriberConfig) else SubscriberConfig.model_validate(entry))
        except ValidationError as error:
            raise ConfigurationError(_sentence(f"subscribers[{index}]", error, SubscriberConfig)) from None
    check_unique(configs)
    return configs


def check_unique(configs: list[SubscriberConfig]) -> None:
    """Raise ConfigurationError if two instances have the same id: they would share a consumer group."""
    seen: dict[str, int] = {}
    for index, config in enumerate(configs):
        if config.id in seen:
            raise ConfigurationError(
                f"subscribers[{index}].id: {config.id!r} is already the id of subscribers[{seen[config.id]}]; ids must be unique"
            )
        seen[config.id] = index


def plan(config: SubscriberConfig, plugin: type[Subscriber[Any]]) -> SubscriberPlan:
    """Check the settings, the delivery and the filter of `config` against its plugin. Raises ConfigurationError."""
    where = f"subscribers[{config.id}]"
    if not plugin.handlers:
        raise ConfigurationError(f"{where}.use: {plugin.__qualname__} has no method marked with @on")
    conceal(secrets_in(plugin.settings_class, config.settings))  # first: a validator may quote the value that it rejects
    try:
        settings = plugin.settings_class.model_validate(config.settings)
    except ValidationError as error:
        raise ConfigurationError(masked(_sentence(f"{where}.settings", error, plugin.settings_class))) from None
    conceal(secrets_of(settings))
    try:
        delivery = _merge(plugin.delivery, config.delivery)
    except ValidationError as error:
        raise ConfigurationError(_sentence(f"{where}.delivery", error, Delivery)) from None
    types = _read_types(where, delivery, config.types)
    try:
        narrowed = None if config.filter is None else parse_filter(config.filter)
    except ValueError as error:
        raise ConfigurationError(f"{where}.filter: {error}") from None
    filters = [one for one in (plugin.filter, narrowed) if one is not None]
    return SubscriberPlan(config, plugin, settings, delivery, F.all(*filters) if filters else None, types)


def _read_types(where: str, delivery: Delivery, table: Mapping[str, Mapping[str, Any]]) -> tuple[TypeRule, ...]:
    try:
        check_patterns(delivery.priority)
    except ValueError as error:
        raise ConfigurationError(f"{where}.delivery.priority{error}") from None
    try:
        return read_rules(delivery, table)
    except ValueError as error:
        raise ConfigurationError(f"{where}.types{error}") from None


def _merge(declared: Delivery, overrides: Mapping[str, Any]) -> Delivery:
    fields = declared.model_dump()
    for name, value in overrides.items():
        both_tables = isinstance(value, Mapping) and isinstance(fields.get(name), Mapping)
        fields[name] = {**fields[name], **value} if both_tables else value
    return Delivery.model_validate(fields)


def _sentence(where: str, error: ValidationError, model: type[BaseModel]) -> str:
    """A message with all faults in `error`, each with the path of its field; values are omitted, because they may be secret. For
    an unknown key of `model` itself the known keys are listed."""
    known = ", ".join(field.alias or name for name, field in model.model_fields.items()) or "none"
    faults = []
    for one in error.errors(include_url=False, include_input=False):
        reason = fault_of(one)
        if one["type"] == "extra_forbidden":
            reason = f"unknown key (known keys: {known})" if len(one["loc"]) == 1 else "unknown key"
        faults.append(f"{place_of(one['loc'], where)}: {reason}")
    return "; ".join(faults)
