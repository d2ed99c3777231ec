"""Maps the tables `[otlp]` and `[metrics]` of the settings to subscribers, to the export of workers and the push of metrics."""

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ..metrics.push import PushSettings
    from ..settings import MetricsSection, OtlpSection
    from ..worker import SpanExport

METRICS = "metrics"
"""The subscriber that counts events."""

_OF_TRACES = {"mode": "traces_mode", "slow": "traces_slow", "keep": "traces_keep"}


def exporting_subscribers(
    section: "OtlpSection", metrics: "MetricsSection", present: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The entries of `[[subscribers]]` that export to the endpoint, none without an endpoint, and the one that counts events. A
    plugin that `present` configures is left to that configuration."""
    added = [*_exporters(section), *([{"use": METRICS}] if section.endpoint is not None or metrics.enabled else [])]
    configured = {_class_of(str(entry.get("use"))) for entry in present}
    return [entry for entry in added if _class_of(entry["use"]) not in configured]


def _class_of(use: str) -> str:
    """The class of a plugin as module:Class, if it is named by its entry point."""
    from ..delivery import available

    found = available().get(use)
    return use if found is None else found.value


def _exporters(section: "OtlpSection") -> list[dict[str, Any]]:
    if section.endpoint is None:
        return []
    common: dict[str, Any] = {
        "endpoint": section.endpoint,
        "headers": section.headers.get_secret_value(),
        "timeout_seconds": section.timeout_seconds,
        "compression": section.compression,
    }
    if section.environment:
        common["resource"] = {"deployment.environment.name": section.environment}
    traces = {name: getattr(section, field) for name, field in _OF_TRACES.items()}
    return [
        {"use": "otel-traces", "settings": {**common, **traces}},
        {"use": "otel-logs", "settings": common},
    ]


def span_export(section: "OtlpSection") -> "SpanExport | None":
    """Where workers export the spans of their handlers; None without an endpoint."""
    if section.endpoint is None:
        return None
    from ..worker import SpanExport

    return SpanExport(
        endpoint=section.endpoint,
        headers=section.headers,
        timeout_seconds=section.timeout_seconds,
        gzip=section.compression == "gzip",
    )


def metrics_push(section: "OtlpSection", instance: str | None = None) -> "PushSettings | None":
    """Where a process pushes its metrics; None without an endpoint. `instance`: identifies the process on this host if it is
    started alone; the processes of a supervisor have their names."""
    if section.endpoint is None:
        return None
    from ..metrics.push import PushSettings

    host = socket.gethostname()
    resource = {"service.name": "hub", "host.name": host}
    if instance is not None:
        resource["service.instance.id"] = f"{host}/{instance}"
    if section.environment:
        resource["deployment.environment.name"] = section.environment
    return PushSettings(
        url=section.endpoint + "/v1/metrics",
        headers=_headers_of(section.headers),
        interval_seconds=section.metrics_interval_seconds,
        timeout_seconds=section.timeout_seconds,
        gzip=section.compression == "gzip",
        resource=resource,
    )


def _headers_of(text: "SecretStr") -> "dict[str, SecretStr]":
    """The headers in "name=value,name=value", in which "%2C" is a comma. Raises ConfigurationError, without the values."""
    from pydantic import SecretStr

    headers = {}
    given = [part.strip() for part in text.get_secret_value().split(",")]
    for number, part in enumerate(given, 1):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if part and not (name and equals):
            raise ConfigurationError(f"otlp.headers: header {number} must have the form name=value.")
        if part:
            headers[name.lower()] = SecretStr(unquote(value))
    return headers
