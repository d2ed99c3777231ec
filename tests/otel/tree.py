"""Prints traces as trees with durations, for people: `python -m tests.otel.tree` prints those of the recorded log."""

from collections.abc import Iterable

from subscribers.otel.spans import TaskSpan, spans_of
from tests.otel.recorded import recorded

WIDTH = 40


def tree_of(spans: Iterable[TaskSpan]) -> str:
    """The spans of one trace, children below their parents in the order of their start, with a bar on the time of the trace."""
    chosen = sorted(spans, key=lambda span: (span.start, span.end, span.name))
    known = {span.id for span in chosen}
    begin = min(span.start for span in chosen)
    whole = max(max(span.end for span in chosen) - begin, 1)
    lines: list[str] = []

    def add(parent: str | None, depth: int) -> None:
        for span in chosen:
            above = span.parent if span.parent in known else None
            if above == parent:
                lines.append(_line(span, depth, begin, whole))
                add(span.id, depth + 1)

    add(None, 0)
    return "\n".join(lines)


def _line(span: TaskSpan, depth: int, begin: int, whole: int) -> str:
    left = (span.start - begin) * WIDTH // whole
    right = max(-(-(span.end - begin) * WIDTH // whole), left + 1)
    bar = " " * left + "█" * min(right - left, WIDTH - left)
    step = dict(span.attributes).get("hub.step.name")
    name = f"{'  ' * depth}{span.name}{f' [{step}]' if step and span.name.startswith('task ') else ''}"
    failed = f"  {dict(span.attributes)['error.type']}" if span.error is not None else ""
    return f"{name:<34} {(span.end - span.start) / 1e9:>8.3f} s |{bar:<{WIDTH}}|{failed}".rstrip()


def traces_of(spans: Iterable[TaskSpan]) -> dict[str, list[TaskSpan]]:
    """The spans by the id of their trace."""
    traces: dict[str, list[TaskSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace, []).append(span)
    return traces


if __name__ == "__main__":
    for trace, found in traces_of(span for event in recorded() for span in spans_of(event)).items():
        print(f"trace {trace}\n{tree_of(found)}\n")
