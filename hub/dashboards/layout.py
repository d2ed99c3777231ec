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
    """Numbers, six in a line."""
    return [Sized(panel, 4, 4) for panel in panels]


def medium(*panels: Json) -> list[Sized]:
    """Graphs, three in a line."""
    return [Sized(panel, 8, 8) for panel in panels]


def large(*panels: Json) -> list[Sized]:
    """Graphs, two in a line."""
    return [Sized(panel, 12, 9) for panel in panels]


def wide(panel: Json, height: int = 10) -> list[Sized]:
    """A panel over the whole width."""
    return [Sized(panel, COLUMNS, height)]


def placed(rows: Sequence[Row]) -> list[Json]:
    """All panels with id and position. A line is as high as its highest panel."""
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
        if left + one.width > COLUMNS:
            left, top, height = 0, top + height, 0
        panel = _with_place(one.panel, found, left, top)
        panel["gridPos"] |= {"w": one.width, "h": one.height}
        found.append(panel)
        left, height = left + one.width, max(height, one.height)
    return top + height


def _with_place(panel: Json, before: Sequence[Json], left: int, top: int) -> Json:
    return {"id": len(before) + 1, **panel, "gridPos": {"x": left, "y": top}}
