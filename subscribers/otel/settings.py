"""Settings of the subscribers that export to a collector, and its URL."""

import re
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, SecretStr

from ..api import Duration, SubscriberSettings
from ..sinks import Destination

_HEADER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?\s*")


def parse_headers(text: str) -> dict[str, str]:
    """The headers in "name=value,name=value", the format of OTEL_EXPORTER_OTLP_HEADERS, in which "%2C" is a comma. Raises
    ValueError, which does not repeat the text."""
    headers = {}
    for number, part in enumerate(text.split(","), 1):
        if not part.strip():
            continue
        found = _HEADER.fullmatch(part)
        if found is None:
            raise ValueError(f"header {number}: must have the form name=value, in printable ASCII characters")
        headers[found[1].lower()] = _unquoted(number, found[2] or "")
    return headers


def _unquoted(number: int, value: str) -> str:
    text = unquote(value)
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"header {number}: the value must consist of printable ASCII characters")
    return text


def _is_endpoint(url: str) -> str:
    if "?" in url:
        raise ValueError("the endpoint must not have a query: the path of the signal is added to it")
    Destination.parse(url)
    return url.rstrip("/")


def _are_headers(text: SecretStr) -> SecretStr:
    parse_headers(text.get_secret_value())
    return text


Endpoint = Annotated[str, AfterValidator(_is_endpoint)]


class OtlpSettings(SubscriberSettings):
    """A collector that takes OTLP over HTTP.

    `endpoint`: its URL, to which the path of the signal is added (/v1/traces). `headers`: for each request, "name=value,...".
    `timeout_seconds`: of one request. `resource`: attributes of the resource in addition to `service.name`; they are part of
    every export, so they must not differ between the processes of a hub."""

    endpoint: Endpoint
    headers: Annotated[SecretStr, AfterValidator(_are_headers)] = SecretStr("")
    timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    compression: Literal["gzip", "none"] = "gzip"
    resource: dict[str, str] = {}

    @property
    def resource_attributes(self) -> dict[str, str]:
        """The attributes of the resource."""
        return {"service.name": "hub", **self.resource}


class TracesSettings(OtlpSettings):
    """`mode`: "live" exports each span when it ends; "on_terminal" exports the spans of tasks that did not succeed at once, of
    slow ones (`slow`, from ready to the end), and of a share `keep` of the rest (see `tail.py`)."""

    mode: Literal["live", "on_terminal"] = "live"
    slow: Duration = "10s"
    keep: float = Field(default=0.1, ge=0, le=1)
