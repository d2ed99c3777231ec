"""Positions of panels: rows with a heading, in which panels flow from left to right over 24 columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

COLUMNS = 24
HEADING = 1


class Sized(NamedTuple):
    """A panel, its width in columns (of 24) and its height in units of Grafana (30 pixels)."""

    panel: Json
    width: int
    height: int


class Row(NamedTuple):
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Sized]


def small(*panels: Json) -> list[Sized]:
    """Numbers, six in a line at most."""
    return [Sized(panel, COLUMNS // min(len(panels), 6), 4) for panel in panels]


def medium(*panels: Json) -> list[Sized]:
    """Graphs, three in a line; the last lines have two if that leaves no gap."""
    pairs = {0: 0, 1: 2, 2: 1}[len(panels) % 3] if len(panels) > 1 else 0
    threes = len(panels) - 2 * pairs
    return [Sized(panel, 8 if number < threes else 12, 8) for number, panel in enumerate(panels)]


def large(*panels: Json) -> list[Sized]:
    """Graphs, two in a line."""
    return [Sized(panel, 12, 9) for panel in panels]


def wide(panel: Json, height: int = 10) -> list[Sized]:
    """A panel over the whole width."""
    return [Sized(panel, COLUMNS, height)]


def placed(rows: Sequence[Row]) -> list[Json]:
    """All panels with id and position. The panels of a line have the same height."""
    found: list[Json] = []
    top = 0
    for row in rows:
        found.append(_with_place({"type": "row", "title": row.title, "collapsed": False, "panels": []}, found, 0, top))
        found[-1]["gridPos"] |= {"w": COLUMNS, "h": HEADING}
        top = _flow(row.panels, found, top + HEADING)
    return found


def _flow(panels: Sequence[Sized], found: list[Json], top: int) -> int:
    """Add the panels from `top` on; return the first free line below."""
    left = height = 0
    for one in panels:
        if left + one.width > COLUMNS or (left > 0 and one.height != height):
            left, top, height = 0, top + height, 0
        panel = _with_place(one.panel, found, left, top)
        panel["gridPos"] |= {"w": one.width, "h": one.height}
        found.append(panel)
        left, height = left + one.width, one.height
    return top + height


def _with_place(panel: Json, before: Sequence[Json], left: int, top: int) -> Json:
    return {"id": len(before) + 1, **panel, "gridPos": {"x": left, "y": top}}
