"""Renders the dashboards with real values, to look at: `python -m tests.dashboards.render FOLDER [--minutes 10] [--again]`.

Runs a hub under a varied load, which a Prometheus (that of `prometheus.py`) scrapes; asks it every expression of every dashboard,
with all values of its variables chosen; and writes a page of HTML per dashboard into FOLDER/pages, and a picture of it (PNG) if
there is a `chromium` on the path. Panels without data, and queries that Prometheus refuses, are printed. `--again` draws the load
that is recorded in FOLDER, for example after a change of a panel.
"""

import argparse
import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hub.dashboards import dashboards

from . import drawing
from .drawing import Box, Course
from .observed import Recorded, prometheus, record, recorded_in
from .units import formatted

Json = dict[str, Any]
OBJECTIVE = 0.999
SCRAPE_SECONDS = 15
STYLE = (Path(__file__).parent / "page.css").read_text()


class Source(Protocol):
    """What answers queries (see `Prometheus`)."""

    def over_time(self, expression: str, begin: float, end: float, step: float) -> list[Json]: ...
    def at(self, expression: str, when: float) -> list[Json]: ...


class View(NamedTuple):
    """What a dashboard is drawn from: the answers to its queries, and the time in seconds since the epoch."""

    source: Source
    time: Recorded

    @property
    def step(self) -> float:
        """Seconds between two points: as many points as Grafana asks for at this width, and no finer than the interval."""
        return max(float(SCRAPE_SECONDS), (self.time.end - self.time.begin) / 500 // 15 * 15)


def filled(expression: str, view: View) -> str:
    """The expression with values for Grafana's variables: all values of labels."""
    known = {
        "__rate_interval": f"{max(4 * SCRAPE_SECONDS, view.step + SCRAPE_SECONDS):.0f}s",
        "__range": f"{view.time.end - view.time.begin:.0f}s",
        "objective": f"{OBJECTIVE:g}",
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ".*"), expression)


def named(target: Json, labels: dict[str, str]) -> str:
    """The name of a series in the legend."""
    if target["legendFormat"] == "__auto":
        return ", ".join(f'{key}="{value}"' for key, value in labels.items()) or "Value"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"]).strip()


def courses_of(panel: Json, view: View) -> list[Course]:
    """The series of all queries of a panel."""
    found = []
    for target in panel["targets"]:
        if target["instant"]:
            samples = view.source.at(filled(target["expr"], view), view.time.end)
            found += [
                Course("", [(float(at), float(value))]) for at, value in (one["value"] for one in samples) if value != "NaN"
            ]
            continue
        answer = view.source.over_time(filled(target["expr"], view), *view.time, view.step)
        for series in sorted(answer, key=lambda one: sorted(one["metric"].items())):
            points = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
            found.append(Course(named(target, series["metric"]), points))
    return found


def table_of(panel: Json, view: View) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table: the samples of its queries joined by their labels."""
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    letters = [target["refId"] for target in panel["targets"]]
    for target in panel["targets"]:
        for sample in view.source.at(filled(target["expr"], view), view.time.end):
            labels = tuple(sorted(sample["metric"].items()))
            rows.setdefault(labels, {})[target["refId"]] = float(sample["value"][1])
    names = sorted({name for labels in rows for name, _ in labels})
    overrides = {
        one["matcher"]["options"]: {item["id"]: item["value"] for item in one["properties"]}
        for one in panel["fieldConfig"]["overrides"]
    }
    columns = {letter: overrides.get(f"Value #{letter}", {}) for letter in letters}
    ordered = sorted(rows.items(), key=lambda row: -row[1].get(letters[0], float("-inf")))
    cells = [
        [*(escape(dict(labels).get(name, "")) for name in names), *(_cell(values.get(key), columns[key]) for key in letters)]
        for labels, values in ordered
    ]
    return [*names, *(columns[key].get("displayName", f"Value #{key}") for key in letters)], cells


def _cell(value: float | None, column: Json) -> str:
    if value is None:
        return ""
    text = formatted(value, column.get("unit", "short"), column.get("decimals"))
    if "thresholds" not in column:
        return text
    return f'<b style="color:{drawing.color_of(value, column["thresholds"]["steps"])}">{text}</b>'


def drawn(panel: Json, view: View, box: Box) -> str:
    """The inside of a panel."""
    kind = panel["type"]
    if kind == "text":
        bold = re.sub(r"[*][*](.+?)[*][*]", r"<b>\1</b>", escape(panel["options"]["content"]))
        return f'<div class="text">{bold}</div>'
    if panel["datasource"]["type"] != "prometheus":
        return f'<div class="none" style="line-height:{box.height}px">({panel["datasource"]["type"]})</div>'
    span = (view.time.begin, view.time.end)
    if kind == "table":
        return drawing.table(*table_of(panel, view), box)
    courses = courses_of(panel, view)
    if kind == "stat":
        return drawing.stat(panel, courses, box)
    if kind == "state-timeline":
        return drawing.timeline(panel, courses, box, span, view.step)
    if kind == "heatmap":
        return drawing.heatmap(panel, courses, box, span, view.step)
    return drawing.graph(panel, courses, box, span, view.step)


def page(board: Json, view: View) -> tuple[str, int, list[str]]:
    """A dashboard as HTML, its height in pixels, and what is wrong with panels."""
    parts, problems, bottom = [], [], 0.0
    for panel in board["panels"]:
        left, top, size = drawing.place(panel)
        bottom = max(bottom, top + size.height)
        style = f'style="left:{left:.1f}px;top:{top:.1f}px;width:{size.width:.1f}px;height:{size.height:.1f}px"'
        if panel["type"] == "row":
            parts.append(f'<div class="row" {style}>⌄ {escape(panel["title"])}</div>')
            continue
        try:
            inside = drawn(panel, view, Box(size.width - 2, size.height - drawing.TITLE - 2))
        except ValueError as refused:
            inside = f'<div class="none">{escape(str(refused))}</div>'
            problems.append(f"{panel['title']}: {refused}")
        if ">No data<" in inside:
            problems.append(f"{panel['title']}: no data")
        parts.append(f'<div class="panel" {style}><div class="title">{escape(panel["title"])}</div>{inside}</div>')
    height = int(bottom) + drawing.GAP
    head = f'<meta charset="utf-8"><title>{escape(board["title"])}</title><style>{STYLE}body {{ height: {height}px }}</style>'
    return f"<!doctype html>{head}{''.join(parts)}", height, problems


def photographed(path: Path, width: int, height: int) -> None:
    """A picture of a page beside it, if there is a Chromium."""
    program = shutil.which("chromium")
    if program is None:
        return
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={path.parent}/.chromium"]
    target = [f"--window-size={width},{height}", f"--screenshot={path.with_suffix('.png')}", path.resolve().as_uri()]
    subprocess.run([program, *options, *target], capture_output=True, timeout=120, check=True)


def render(folder: Path, chosen: Iterable[Json], view: View) -> list[str]:
    """Write the pages of dashboards; returns what is wrong with panels."""
    pages = folder / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    found = []
    for board in chosen:
        content, height, problems = page(board, view)
        path = pages / f"{board['uid']}.html"
        path.write_text(content)
        photographed(path, drawing.PAGE_WIDTH, height)
        found += [f"{board['title']} / {problem}" for problem in problems]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="duration of the load")
    parser.add_argument("--again", action="store_true", help="draw the load that is recorded in the folder")
    parser.add_argument("--only", default="", help="part of the uid of the dashboards to draw")
    options = parser.parse_args(arguments)
    if not options.again:
        asyncio.run(record(options.folder, options.minutes * 60))
    with prometheus(options.folder) as source:
        view = View(source, recorded_in(options.folder))
        boards = [one.as_json() for one in dashboards(OBJECTIVE) if options.only in one.uid]
        for problem in render(options.folder, boards, view):
            print(problem)


if __name__ == "__main__":
    main()
