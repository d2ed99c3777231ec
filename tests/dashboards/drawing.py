"""Panels drawn as HTML and SVG, from their JSON and the answers of Prometheus: close enough to Grafana to judge a dashboard.

Sizes are those of Grafana at a width of 1600 pixels: 24 columns, a unit of height of 30 pixels and a gap of 8.
"""

import math
import time
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from .units import formatted

Json = dict[str, Any]
PAGE_WIDTH = 1600
GAP, UNIT, TITLE = 8, 30, 32
LEGEND_ROW = 22
PALETTE = (
    "#73BF69",
    "#F2CC0C",
    "#5794F2",
    "#FF780A",
    "#F2495C",
    "#B877D9",
    "#705DA0",
    "#37872D",
    "#FADE2A",
    "#447EBC",
    "#C15C17",
)
COLORS = {
    "green": "#73BF69",
    "yellow": "#EAB839",
    "red": "#E24D42",
    "blue": "#5794F2",
    "orange": "#FF780A",
    "purple": "#B877D9",
    "dark-red": "#C4162A",
    "dark-orange": "#FA6400",
    "light-blue": "#8AB8FF",
}


class Course(NamedTuple):
    """A series over time: its name in the legend, and (seconds, value) pairs."""

    name: str
    points: list[tuple[float, float]]


class Box(NamedTuple):
    """Width and height in pixels."""

    width: float
    height: float


def place(panel: Json) -> tuple[float, float, Box]:
    """Left, top and size of a panel in pixels."""
    grid = panel["gridPos"]
    column = (PAGE_WIDTH - GAP) / 24
    width, height = grid["w"] * column - GAP, grid["h"] * (UNIT + GAP) - GAP
    return GAP + grid["x"] * column, GAP + grid["y"] * (UNIT + GAP), Box(width, height)


def color_of(value: float, steps: Sequence[Json]) -> str:
    """The colour of a value by thresholds."""
    found: str = steps[0]["color"]
    for step in steps[1:]:
        if value >= step["value"]:
            found = step["color"]
    return COLORS.get(found, found)


def stat(panel: Json, courses: Sequence[Course], box: Box) -> str:
    """The last value of the first series, with a sparkline behind it."""
    if not any(course.points for course in courses):
        return no_data(box)
    defaults = panel["fieldConfig"]["defaults"]
    (course,) = courses[:1]
    value = course.points[-1][1]
    color = color_of(value, defaults["thresholds"]["steps"])
    filled = panel["options"]["colorMode"] == "background"
    line = ""
    if panel["options"]["graphMode"] == "area":
        line = _polyline(course.points, box, (course.points[0][0], course.points[-1][0]), (0, _highest([course]) * 2.2))
    text = formatted(value, defaults["unit"], defaults.get("decimals"))
    size = min(box.height * 0.45, box.width / max(len(text), 3) * 1.5)
    ink = "white" if filled else color
    return (
        f'<svg width="{box.width}" height="{box.height}"><rect width="100%" height="100%" fill="{color if filled else "none"}"/>'
        f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-opacity=".5"/>'
        f'<text x="50%" y="55%" text-anchor="middle" font-size="{size:.0f}" font-weight="500" fill="{ink}">{escape(text)}</text>'
        "</svg>"
    )


def graph(panel: Json, courses: Sequence[Course], box: Box, span: tuple[float, float], step: float) -> str:
    """Lines or stacked areas, with axes and the legend as a table."""
    courses = [course for course in courses if course.points]
    if not courses:
        return no_data(box)
    defaults, colors = panel["fieldConfig"]["defaults"], _colors(panel, courses)
    unit, stacked = defaults["unit"], defaults["custom"]["stacking"]["mode"] == "normal"
    legend_height = min(box.height * 0.35, LEGEND_ROW * (len(courses) + 1))
    area = Box(box.width - 70, box.height - legend_height - 26)
    layers = _stacked(courses) if stacked else [course.points for course in courses]
    top = _ceiling(max((value for points in layers for _, value in points), default=0.0))
    shapes = []
    for index in reversed(range(len(layers))):
        for piece in _pieces(layers[index], step):
            line = _polyline(piece, area, span, (0, top))
            if stacked:
                begin, end = line.split(" ")[0].split(",")[0], line.split(" ")[-1].split(",")[0]
                outline = f"{begin},{area.height} {line} {end},{area.height}"
                shapes.append(f'<polygon points="{outline}" fill="white"/>')  # each layer covers those above it
                shapes.append(f'<polygon points="{outline}" fill="{colors[index]}" fill-opacity=".4"/>')
            shapes.append(f'<polyline points="{line}" fill="none" stroke="{colors[index]}" stroke-width="1.3"/>')
    axes = _value_axis(area, top, unit) + _time_axis(area, span)
    drawn = (
        f'<svg width="{box.width}" height="{area.height + 24}"><g transform="translate(62 4)">{axes}{"".join(shapes)}</g></svg>'
    )
    return drawn + _legend(courses, colors, unit, legend_height)


def timeline(panel: Json, courses: Sequence[Course], box: Box, span: tuple[float, float], step: float) -> str:
    """One bar per series, with the colours and texts of the values."""
    courses = [course for course in courses if course.points]
    if not courses:
        return no_data(box)
    texts = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    area = Box(box.width - 140, box.height - 30)
    high = area.height / len(courses)
    cells, names = [], []
    for row, course in enumerate(courses):
        names.append(f'<text x="-6" y="{(row + 0.5) * high + 4:.1f}" text-anchor="end" class="tick">{escape(course.name)}</text>')
        previous = None
        for at, value in course.points:
            known = texts[f"{value:g}"]
            x = (at - span[0]) / (span[1] - span[0]) * area.width
            wide = min(step / (span[1] - span[0]) * area.width, area.width - x) + 0.3
            place = f'x="{x:.1f}" y="{(row + 0.1) * high:.1f}" width="{wide:.1f}" height="{high * 0.8:.1f}"'
            cells.append(f'<rect {place} fill="{COLORS.get(known["color"], known["color"])}" fill-opacity=".7"/>')
            if value != previous:
                names.append(f'<text x="{x + 4:.1f}" y="{(row + 0.5) * high + 4:.1f}" class="state">{known["text"]}</text>')
            previous = value
    drawn = f'<g transform="translate(120 4)">{"".join(cells + names)}{_time_axis(area, span)}</g>'
    return f'<svg width="{box.width}" height="{box.height}">{drawn}</svg>'


def heatmap(panel: Json, courses: Sequence[Course], box: Box, span: tuple[float, float], step: float) -> str:
    """A distribution over time: one line of cells per bucket. The courses are the buckets, cumulative, by their upper limit."""
    bounds = sorted((math.inf if course.name == "+Inf" else float(course.name), dict(course.points)) for course in courses)
    if not bounds:
        return no_data(box)
    rows, below = [], dict[float, float]()
    for bound, values in bounds:
        rows.append((bound, {at: max(0.0, value - below.get(at, 0.0)) for at, value in values.items()}))
        below = values
    used = [index for index, (_, values) in enumerate(rows) if any(value > 1e-9 for value in values.values())]
    if not used:
        return no_data(box)
    largest = max(value for _, values in rows for value in values.values())
    area = Box(box.width - 80, box.height - 28)
    high = area.height / len(rows)
    unit = panel["options"]["yAxis"]["unit"]
    cells = []
    for index, (bound, values) in enumerate(rows):
        y = area.height - (index + 1) * high
        label = "" if len(rows) > 12 and index % 2 else formatted(bound, unit)
        cells.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end" class="tick">{label}</text>')
        for at, value in values.items():
            if value > 1e-9:
                x = (at - span[0]) / (span[1] - span[0]) * area.width
                wide = step / (span[1] - span[0]) * area.width
                cells.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(wide - 1, 1):.1f}" height="{high - 1:.1f}" fill="#08519c" '
                    f'fill-opacity="{max(0.06, (value / largest) ** 0.5):.2f}"/>'
                )
    return (
        f'<svg width="{box.width}" height="{box.height}"><g transform="translate(70 8)">{"".join(cells)}'
        f"{_time_axis(area, span)}</g></svg>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], box: Box) -> str:
    """A table; rows that do not fit are cut, as in a panel that scrolls."""
    if not rows:
        return no_data(box)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div style="height:{box.height}px;overflow:hidden"><table><tr>{head}</tr>{body}</table></div>'


def no_data(box: Box) -> str:
    """What Grafana shows for a query without series."""
    return f'<div class="none" style="line-height:{box.height}px">No data</div>'


def _colors(panel: Json, courses: Sequence[Course]) -> list[str]:
    """The colour of each series: that of an override, or the next one of the palette."""
    fixed = {
        one["matcher"]["options"]: item["value"]["fixedColor"]
        for one in panel["fieldConfig"]["overrides"]
        for item in one["properties"]
        if item["id"] == "color"
    }
    names = (fixed.get(course.name, PALETTE[index % len(PALETTE)]) for index, course in enumerate(courses))
    return [COLORS.get(name, name) for name in names]


def _pieces(points: Sequence[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    """The parts of a series between gaps."""
    found: list[list[tuple[float, float]]] = []
    for point in points:
        if not found or point[0] - found[-1][-1][0] > 1.5 * step:
            found.append([])
        found[-1].append(point)
    return found


def _legend(courses: Sequence[Course], colors: Sequence[str], unit: str, height: float) -> str:
    """The largest last value first."""
    ordered = sorted(zip(courses, colors, strict=True), key=lambda one: -one[0].points[-1][1])
    rows = "".join(
        f'<tr><td><i style="background:{color}"></i>{escape(course.name)}</td>'
        f"<td>{formatted(course.points[-1][1], unit)}</td><td>{formatted(max(v for _, v in course.points), unit)}</td></tr>"
        for course, color in ordered
    )
    return (
        f'<div style="height:{height}px;overflow:hidden"><table class="legend"><tr><th>Name</th><th>Last *</th><th>Max</th></tr>'
        f"{rows}</table></div>"
    )


def _stacked(courses: Sequence[Course]) -> list[list[tuple[float, float]]]:
    below: dict[float, float] = {}
    layers = []
    for course in courses:
        layers.append([(at, value + below.get(at, 0.0)) for at, value in course.points])
        below |= dict(layers[-1])
    return layers


def _polyline(points: Sequence[tuple[float, float]], area: Box, span: tuple[float, float], values: tuple[float, float]) -> str:
    (begin, end), (low, high) = span, values
    wide, tall = max(end - begin, 1e-9), max(high - low, 1e-9)
    return " ".join(
        f"{(at - begin) / wide * area.width:.1f},{area.height - (value - low) / tall * area.height:.1f}" for at, value in points
    )


def _highest(courses: Sequence[Course]) -> float:
    return max((value for course in courses for _, value in course.points), default=0.0) or 1.0


def _ceiling(value: float) -> float:
    """The upper end of an axis: 1, 2 or 5 times a power of ten in four steps."""
    if value <= 0 or math.isinf(value) or math.isnan(value):
        return 1.0
    size = 10.0 ** math.floor(math.log10(value / 4))
    return next(step * size for step in (1, 2, 2.5, 5, 10, 20, 25, 50) for step in (step * 4,) if step * size >= value)


def _value_axis(area: Box, top: float, unit: str) -> str:
    lines = []
    for step in range(5):
        y = area.height * (1 - step / 4)
        label = formatted(top * step / 4, unit)
        lines.append(f'<line x1="0" x2="{area.width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        lines.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end" class="tick">{escape(label)}</text>')
    return "".join(lines)


def _time_axis(area: Box, span: tuple[float, float]) -> str:
    every = next(one for one in (60, 120, 300, 600, 900, 1800, 3600, 10800) if (span[1] - span[0]) / one <= 8)
    first = math.ceil(span[0] / every) * every
    marks = []
    for at in range(first, int(span[1]) + 1, every):
        x = (at - span[0]) / (span[1] - span[0]) * area.width
        label = time.strftime("%H:%M", time.gmtime(at))
        marks.append(f'<text x="{x:.1f}" y="{area.height + 16:.1f}" text-anchor="middle" class="tick">{label}</text>')
    return "".join(marks)
