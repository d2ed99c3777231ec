"""The type of a setting that names event types."""

from typing import Annotated

from pydantic import AfterValidator

from schemas import CATALOGUE


def _are_known(types: tuple[str, ...]) -> tuple[str, ...]:
    for one in types:
        if "*" not in one and one not in CATALOGUE:
            raise ValueError(f"{one!r} is not an event type of this hub; see `hub events list`")
    return types


EventTypes = Annotated[tuple[str, ...], AfterValidator(_are_known)]
"""Event types of the hub, in which `*` matches any text."""
