"""Plain values as YAML: mappings, lists, strings, numbers and booleans, in the order given. Strings of several lines are blocks.

A string that YAML could read as something else is written in double quotes, in which JSON and YAML escape alike. Source:
YAML 1.2.2.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][\w ./+-]*[\w/]|[A-Za-z]|[0-9]+[smhd]")
_OTHER_TYPES = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def yaml_text(value: Mapping[str, Any], *comments: str) -> str:
    """A document, with comments at its top."""
    return "\n".join([*(f"# {comment}" for comment in comments), *_lines(value), ""])


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _entry(f"{_scalar(key)}:", one)
    else:
        for one in value:
            yield from _item(one)


def _entry(head: str, value: Any) -> Iterator[str]:
    if _is_scalar(value):
        yield f"{head} {_scalar(value)}"
    elif isinstance(value, str):
        yield f"{head} |-"
        yield from (f"  {line}" for line in value.split("\n"))
    else:
        yield head
        yield from (f"  {line}" for line in _lines(value))


def _item(value: Any) -> Iterator[str]:
    if _is_scalar(value):
        yield f"- {_scalar(value)}"
    else:
        first, *rest = _lines(value)
        yield f"- {first}"
        yield from (f"  {line}" for line in rest)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return "\n" not in value
    return not isinstance(value, Mapping | Sequence) or not value


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _OTHER_TYPES:
        return value
    return json.dumps(value, ensure_ascii=False)
