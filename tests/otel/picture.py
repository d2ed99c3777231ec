"""Draws the recorded trace of an order as the picture of the README: `python -m tests.otel.picture` writes `trace.svg`.

One lane per task: waits as dotted lines, the time in the queue hatched, attempts as bars with the spans of their handlers below;
an attempt that failed is red, with an arrow to the attempt that repeats it. The picture has its own background, for light and
dark pages, and needs no font or script.
"""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

RECORDING = Path(__file__).with_name("traced_order.json")
FILE = Path(__file__).parents[2] / "subscribers" / "otel" / "trace.svg"

WIDTH, LEFT, RIGHT, TOP = 860, 132, 16, 44
LANE, BAR, INNER = 50, 15, 13
HUB = "taskhub.events"

STYLE = """
text { font: 12px ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.page { fill: #fff; stroke: #d1d9e0 } .tick, .small { fill: #59636e; font-size: 11px } .grid { stroke: #d1d9e0 }
.run { fill: #6e7781 } .wait { stroke: #8c959f; stroke-dasharray: 2 3; stroke-width: 1.5 } .line { stroke: #8c959f }
.queue { fill: url(#hatch); stroke: #8c959f; stroke-width: .7 } .attempt { fill: #0969da } .failed { fill: #cf222e }
.span { fill: #b6e3ff } .span.failed { fill: #ffc1ba } .red { fill: #cf222e } .on { fill: #fff; font-size: 11px }
.inside { font-size: 11px }
.retry { stroke: #cf222e; fill: none; stroke-width: 1.3; marker-end: url(#arrow) }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .page { fill: #0d1117; stroke: #3d444d } .tick, .small { fill: #9198a1 } .grid { stroke: #262c36 }
.attempt { fill: #1f6feb } .failed { fill: #da3633 } .span { fill: #16417c } .span.failed { fill: #78191b } .red { fill: #ff7b72 }
}
"""
DEFINITIONS = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0V5" class="line"/></pattern><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8Z" class="red"/></marker></defs>'
)


class RecordedSpan(NamedTuple):
    """A span of the recorded trace. `start`, `end`: microseconds since the start of the trace. `link`: the id of the linked
    span; `error`: the message of a failure; `step`: the step of the workflow; `scope`: the library that made the span."""

    id: str
    parent: str
    name: str
    start: int
    end: int
    link: str
    error: str | None
    step: str
    scope: str


def read() -> list[RecordedSpan]:
    """The recorded trace, by start."""
    return [RecordedSpan(**one) for one in json.loads(RECORDING.read_text())]


class _Scale:
    """Places of times, in microseconds, on the page."""

    def __init__(self, end: int) -> None:
        self.per_pixel = end / (WIDTH - LEFT - RIGHT)

    def x(self, at: int) -> float:
        return LEFT + at / self.per_pixel

    def wide(self, span: RecordedSpan) -> float:
        return max((span.end - span.start) / self.per_pixel, 1.5)


def picture(spans: Sequence[RecordedSpan]) -> str:
    """The picture of one trace, of a workflow and its steps, as SVG."""
    (root,) = [span for span in spans if not span.parent]
    tasks = [span for span in spans if span.parent == root.id and span.name.startswith("task ")]
    tasks.sort(key=lambda task: min(span.start for span in _attempts(spans, task)))
    (whole,) = [span for span in spans if span.parent == root.id and span.name.startswith("run ")]
    scale = _Scale(whole.end)
    height = TOP + 34 + LANE * len(tasks) + 40
    parts = [*_axis(scale, whole.end, height - 34), *_whole(scale, whole)]
    for number, task in enumerate(tasks):
        parts += _lane(spans, task, scale, TOP + 34 + LANE * number)
    parts += _key(height - 14)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="Trace of {escape(root.name.removeprefix("task "))}">\n<style>{STYLE}</style>\n{DEFINITIONS}\n'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6" class="page"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _attempts(spans: Iterable[RecordedSpan], task: RecordedSpan) -> list[RecordedSpan]:
    return [span for span in spans if span.parent == task.id and span.name.startswith("attempt ")]


def _axis(scale: _Scale, end: int, bottom: int) -> list[str]:
    """A line for every half second, with the time at every second."""
    found = []
    for half in range(end // 500_000 + 1):
        x = scale.x(half * 500_000)
        found.append(f'<path d="M{x:.1f} 30V{bottom}" class="grid"/>')
        if half % 2 == 0:
            found.append(f'<text x="{x:.1f}" y="22" text-anchor="middle" class="tick">{half // 2} s</text>')
    return found


def _whole(scale: _Scale, run: RecordedSpan) -> list[str]:
    name = run.name.removeprefix("run ")
    return [_label(name, TOP + 12, bold=True), _bar(run, scale, TOP, BAR, "run"), _duration(run, scale, TOP)]


def _label(text: str, y: int, *, bold: bool = False) -> str:
    return f'<text x="12" y="{y}"{" font-weight=" + chr(34) + "600" + chr(34) if bold else ""}>{escape(text)}</text>'


def _lane(spans: Sequence[RecordedSpan], task: RecordedSpan, scale: _Scale, top: int) -> list[str]:
    parts = [_label(task.name.removeprefix("task "), top + 12)]
    attempts = _attempts(spans, task)
    for span in spans:
        if span.parent == task.id and span.name.startswith("wait "):
            line = f"M{scale.x(span.start):.1f} {top + BAR / 2}H{scale.x(span.end):.1f}"
            parts.append(f'<path d="{line}" class="wait">{_about(span)}</path>')
        elif span.parent == task.id and span.name.startswith("queue "):
            parts.append(_bar(span, scale, top, BAR, "queue"))
    for attempt in attempts:
        kind = "attempt failed" if attempt.error is not None else "attempt"
        parts += [_bar(attempt, scale, top, BAR, kind), _duration(attempt, scale, top)]
        parts += _inside(spans, attempt, scale, top + BAR + 1)
        if attempt.error is not None:
            parts.append(
                f'<text x="{scale.x(attempt.end) + 5:.1f}" y="{top + 42}" class="small red">{escape(attempt.error)}</text>'
            )
        for earlier in (one for one in attempts if one.id == attempt.link):
            x, y = scale.x(earlier.end), top - 1
            parts.append(
                f'<path d="M{x:.1f} {y}C{x:.1f} {y - 15} {scale.x(attempt.start):.1f} {y - 15} {_to(attempt, scale, y)}"'
            )
            parts[-1] += ' class="retry"/>'
    return parts


def _to(span: RecordedSpan, scale: _Scale, y: int) -> str:
    return f"{scale.x(span.start) + 3:.1f} {y}"


def _inside(spans: Iterable[RecordedSpan], attempt: RecordedSpan, scale: _Scale, top: int) -> list[str]:
    """The spans that the handler created, with their names: inside if there is room, otherwise to the left."""
    parts = []
    for span in spans:
        if span.parent != attempt.id or span.scope == HUB or scale.wide(span) < 4:
            continue
        parts.append(_bar(span, scale, top, INNER, "span failed" if span.error is not None else "span"))
        room = scale.wide(span) > 7 * len(span.name)
        x, anchor = (scale.x(span.start) + 4, "start") if room else (scale.x(span.start) - 4, "end")
        style = "inside" if room else "small"
        if not room and x < LEFT + 7 * len(span.name):
            x, anchor = scale.x(span.end) + 4, "start"
        parts.append(f'<text x="{x:.1f}" y="{top + 10}" text-anchor="{anchor}" class="{style}">{escape(span.name)}</text>')
    return parts


def _bar(span: RecordedSpan, scale: _Scale, top: int, height: int, kind: str) -> str:
    place = f'x="{scale.x(span.start):.1f}" y="{top}" width="{scale.wide(span):.1f}" height="{height}"'
    return f'<rect {place} class="{kind}">{_about(span)}</rect>'


def _duration(span: RecordedSpan, scale: _Scale, top: int) -> str:
    x = scale.x(span.start) + scale.wide(span) / 2
    room = scale.wide(span) > 40
    text = _seconds(span)
    return f'<text x="{x:.1f}" y="{top + 11}" text-anchor="middle" class="on">{text}</text>' if room else ""


def _seconds(span: RecordedSpan) -> str:
    took = (span.end - span.start) / 1e6
    return f"{took * 1000:.0f} ms" if took < 1 else f"{took:.2f} s"


def _about(span: RecordedSpan) -> str:
    """What is shown when the pointer is over it."""
    return f"<title>{escape(span.name)}, {_seconds(span)}</title>"


def _key(y: int) -> list[str]:
    """What the shapes mean."""
    x, parts = LEFT, []
    for name, shape in (
        ("waits", f'<path d="M{{x}} {y - 4}h22" class="wait"/>'),
        ("in the queue", f'<rect x="{{x}}" y="{y - 10}" width="22" height="12" class="queue"/>'),
        ("attempt", f'<rect x="{{x}}" y="{y - 10}" width="22" height="12" class="attempt"/>'),
        ("failed attempt", f'<rect x="{{x}}" y="{y - 10}" width="22" height="12" class="attempt failed"/>'),
        ("span of the handler", f'<rect x="{{x}}" y="{y - 10}" width="22" height="12" class="span"/>'),
        ("retry (a link)", f'<path d="M{{x}} {y - 3}c6 -8 14 -8 20 0" class="retry"/>'),
    ):
        parts += [shape.format(x=x), f'<text x="{x + 28}" y="{y}" class="small">{name}</text>']
        x += 46 + 6 * len(name)
    return parts


if __name__ == "__main__":
    FILE.write_text(picture(read()))
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")
