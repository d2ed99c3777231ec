"""Rates: text such as "5/s", "100/m" or "1000/h"."""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"\s*(\d{1,9})\s*/\s*(s|m|h|d)\s*")
CALLS_PER_SECOND_MAX = 100_000


class Rate(NamedTuple):
    """At most `calls` in any `seconds`."""

    calls: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """The rate in a text such as "5/s", "100/m", "1000/h" or "10/d", with the smallest whole number of calls: "100/m" is one
        call in 0.6 s, "5/s" is five calls in 1 s. It is at most a second's worth of calls, or one call.

        Raises ValueError if the text is not a rate, or if the rate is 0 or above CALLS_PER_SECOND_MAX."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(
                f'{text!r} is not a rate: must be a number of calls per unit of time, such as "5/s", "100/m", "10/h"'
            )
        calls, seconds = int(match[1]), _SECONDS[match[2]]
        if not 0 < calls <= CALLS_PER_SECOND_MAX * seconds:
            raise ValueError(f"{text!r} is not a rate: must be above 0 and at most {CALLS_PER_SECOND_MAX}/s")
        at_once = next(part for part in range(max(1, calls // seconds), 0, -1) if calls % part == 0)
        return cls(at_once, seconds * at_once / calls)


def _checked(text: str) -> str:
    Rate.parse(text)
    return text


RateText = Annotated[str, AfterValidator(_checked)]
