"""Determines which values of a subscriber's settings are secret, for the display of settings and the masking of logs.

A field is secret when its type is one of pydantic's (SecretStr, SecretBytes, Secret[...]), or when it is marked with
`Field(repr=False)` or with JSON Schema's `writeOnly`. An unknown key is treated as a misspelt secret.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from subscribers import Subscriber

from ..errors import HubError
from ..telemetry import MASK
from .discovery import load

SECRET_TYPES = (SecretStr, SecretBytes, Secret)


def masked_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One table of `[[subscribers]]` with its secrets masked. If the plugin cannot be loaded, all its settings are masked."""
    if "settings" not in entry:
        return dict(entry)
    plugin = _plugin_of(entry.get("use"))
    settings = entry["settings"]
    shown = _leaves(settings, _mask) if plugin is None else masked_settings(plugin.settings_class, settings)
    return {**entry, "settings": shown}


def _plugin_of(use: Any) -> type[Subscriber[Any]] | None:
    try:
        return load(use) if isinstance(use, str) else None
    except HubError:
        return None


def masked_settings(model: type[BaseModel], values: Any) -> Any:
    """The configured `values` of `model`, with secrets masked."""
    return _visit(model, values, _mask)


def secrets_in(model: type[BaseModel], values: Any) -> list[str]:
    """The secret texts in the configured `values` of `model`, which need not be valid."""
    found: list[str] = []

    def collect(value: Any) -> Any:
        if isinstance(value, str):
            found.append(value)
        return value

    _visit(model, values, collect)
    return found


def secrets_of(settings: BaseModel) -> Iterator[str]:
    """The secret texts in valid settings, including defaults."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if _is_marked(field):
            yield from _texts(value)
        else:
            yield from _texts(value, only_secrets=True)


def _texts(value: Any, *, only_secrets: bool = False) -> Iterator[str]:
    if isinstance(value, SECRET_TYPES):
        secret = value.get_secret_value()
        yield secret.decode(errors="replace") if isinstance(secret, bytes) else str(secret)
    elif isinstance(value, BaseModel):
        yield from secrets_of(value)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one, only_secrets=only_secrets)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _texts(one, only_secrets=only_secrets)
    elif isinstance(value, str) and not only_secrets:
        yield value


def _is_marked(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return not field.repr or (isinstance(extra, Mapping) and bool(extra.get("writeOnly")))


# --- values as configured, before validation


def _mask(_value: Any) -> str:
    return MASK


def _visit(annotation: Any, value: Any, visit: Callable[[Any], Any]) -> Any:
    """A copy of `value` in which every secret leaf is replaced by the result of `visit`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, Mapping):
        return {key: _visit_field(_field_of(annotation, key), one, visit) for key, one in value.items()}
    if _is_secret(annotation):
        return _leaves(value, visit)
    inner = get_args(annotation)
    if isinstance(value, Mapping) and get_origin(annotation) is dict:
        return {key: _visit(inner[1], one, visit) for key, one in value.items()}
    if isinstance(value, list) and get_origin(annotation) in (list, tuple, set, frozenset):
        return [_visit(inner[0], one, visit) for one in value]
    for one in inner:  # of a union, or of Annotated
        value = _visit(one, value, visit)
    return value


def _visit_field(field: FieldInfo | None, value: Any, visit: Callable[[Any], Any]) -> Any:
    if field is None or _is_marked(field):
        return _leaves(value, visit)
    return _visit(field.annotation, value, visit)


def _field_of(model: type[BaseModel], key: str) -> FieldInfo | None:
    by_alias = (one for one in model.model_fields.values() if key in (one.alias, one.validation_alias))
    return model.model_fields.get(key) or next(by_alias, None)


def _is_secret(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, SECRET_TYPES)


def _leaves(value: Any, visit: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _leaves(one, visit) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_leaves(one, visit) for one in value]
    return visit(value)
