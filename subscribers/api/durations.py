"""Durations: a number of seconds, or text such as "250ms", "5s", "10m", "1.5h", "1d"."""

import re
from typing import Annotated

from pydantic import AfterValidator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration(value: float | str) -> float:
    """A duration in seconds. `value`: a number of seconds, or text such as "250ms", "5s", "10m", "1.5h", "1d". Raises ValueError
    otherwise."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError(
                f'{value!r} is not a duration: must be a number of seconds, or text such as "250ms", "5s", "10m", "1h", "1d"'
            )
        return float(match[1]) * _UNITS[match[2] or "s"]
    if value < 0 or value != value:
        raise ValueError(f"{value!r} is not a duration: it must not be negative")
    return float(value)


Duration = Annotated[float | str, AfterValidator(parse_duration)]
