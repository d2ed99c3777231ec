"""Templates of links: URLs of a user interface or of a trace store, with placeholders.

    task_url = "https://hub.example/tasks/{task}"
    trace_url = "https://tempo.example/trace/{trace}"

Rules: pure. Values are percent-encoded; a link is omitted if a value is unknown.
"""

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

PLACEHOLDERS = ("task", "namespace", "name", "root", "trace")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%{}-]*")
_CHARACTERS_MAX = 1000


def _is_template(template: str) -> str:
    if not template:
        return template
    parts = urlsplit(template)
    if parts.scheme not in ("http", "https") or not parts.hostname or "{" in parts.netloc or "@" in parts.netloc:
        raise ValueError("must begin with https:// or http:// and a host without placeholders and user names")
    if len(template) > _CHARACTERS_MAX or _CHARACTERS.fullmatch(template) is None:
        raise ValueError(f"must consist of at most {_CHARACTERS_MAX} characters that are permitted in a URL")
    named, others = _PLACEHOLDER.findall(template), _PLACEHOLDER.sub("", template)
    if not set(named) <= set(PLACEHOLDERS) or "{" in others or "}" in others:
        raise ValueError(f"placeholders must be among {', '.join(f'{{{one}}}' for one in PLACEHOLDERS)}")
    return template


LinkTemplate = Annotated[str, AfterValidator(_is_template)]
"""A URL with placeholders: `{task}` and `{root}` are ids, `{namespace}` and `{name}` are those of the task, `{trace}` is the id
of the trace, 32 hexadecimal digits. Empty: no link."""


def link_of(template: str, values: Mapping[str, str | None]) -> str | None:
    """The URL of `template` with these values; None if the template is empty or a value is missing."""
    named = _PLACEHOLDER.findall(template)
    if not template or any(not values.get(one) for one in named):
        return None
    return _PLACEHOLDER.sub(lambda match: quote(values[match[1]] or "", safe=""), template)
