"""`hub stats`: figures of recent tasks, from the events of the hub."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from .configured import time_text
from .render import duration, print_json
from .shell import DEFAULT_BOOTSTRAP, Bootstrap, Json, run
from .tables import print_table

if TYPE_CHECKING:
    from ..analytics import DurationFigures, SeriesReport, StatsReport, StatsSelection

PROGRESS_SECONDS = 1.0
ROWS = 10
"""Lines of the tables of failures, bottlenecks and slowest attempts."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(stats)


def stats(
    task: Annotated[str, typer.Option(metavar="GLOB", help="Only tasks of these names; * matches any text.")] = "*",
    queue: Annotated[str, typer.Option(metavar="GLOB", help="Only tasks of these queues.")] = "*",
    window: Annotated[str, typer.Option(metavar="DURATION", help="How long until now, such as 30s, 5m or 2h.")] = "5m",
    events_max: Annotated[
        int, typer.Option(min=1, help="Most events to read; of more only the last ones are counted.")
    ] = 1_000_000,
    as_json: Json = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> None:
    """Print figures of the tasks of the last minutes: counts, rates, durations, failures, bottlenecks.

    They are computed from the events in hub.events, so that no other process needs to run. WAIT is the time from ready to the
    start of the body, RUN that of the body, TOTAL that from creation to end. Exit codes: 0 success; 2 an invalid option; 3 no
    broker responds; 130 interrupted with Ctrl-C.
    """
    from ..analytics import StatsSelection

    report = run(_read(bootstrap, _seconds(window), StatsSelection(task, queue), events_max))
    if as_json:
        print_json(report)
    else:
        _print(report)


def _seconds(window: str) -> float:
    from subscribers import parse_duration

    try:
        seconds = parse_duration(window)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--window") from None
    if seconds <= 0:
        raise typer.BadParameter("must be more than 0", param_hint="--window")
    return seconds


async def _read(bootstrap: str, seconds: float, selection: "StatsSelection", events_max: int) -> "StatsReport":
    from ..analytics import Statistics, count_range
    from ..runtime.cluster import cluster_at

    now_ms = time.time_ns() // 1_000_000
    progress = ReadingProgress()
    statistics = Statistics(selection)
    start_ms = await count_range(
        cluster_at(bootstrap), statistics.take, (now_ms - round(seconds * 1_000), now_ms), events_max, progress.read
    )
    progress.close()
    if start_ms > now_ms - round(seconds * 1_000):
        typer.echo(f"More than {events_max:,} events: only those from {time_text(start_ms)} on are counted.", err=True)
    return statistics.report(max(0.001, (now_ms - start_ms) / 1_000))


class ReadingProgress:
    """Prints to stderr how many events were read, on a terminal and about once per second."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._printed = False

    def read(self, count: int, total: int) -> None:
        """`count` of `total` records were read."""
        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._printed = True
            sys.stderr.write(f"\rread {count:,} of {total:,} records")
            sys.stderr.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._printed:
            sys.stderr.write("\r\033[K")


def _print(report: "StatsReport") -> None:
    print(f"{report.events:,} events in {duration(report.seconds)}")
    if not report.tasks and not report.workflows:
        print("No task was created or ended.")
        return
    columns = ("TASK", "QUEUE", "CREATED", "ENDED", "PER SECOND", "SUCCESS", "WASTED", "TIME", "MEAN", "P50", "P95", "P99", "MAX")
    print_table(columns, [row for one in report.tasks for row in _rows(one)], shorten=("TASK", "QUEUE"))
    _print_workflows(report)
    _print_failures(report)
    _print_bottlenecks(report)


def _rows(one: "SeriesReport") -> list[tuple[str, ...]]:
    """A line for each duration; the counts are in the first one."""
    wasted = f"{one.wasted_attempts} ({duration(one.wasted_seconds)})" if one.wasted_attempts else ""
    counts = (one.task, one.queue, str(one.created), str(one.ended), f"{one.ended_rate:.2f}", _share(one.success_ratio), wasted)
    times = [(name, figures) for name, figures in (("wait", one.wait), ("run", one.run), ("total", one.total)) if figures]
    lines = [(name, *_cells(figures)) for name, figures in times] or [("", "", "", "", "", "")]
    return [(*(counts if not number else ("",) * len(counts)), *line) for number, line in enumerate(lines)]


def _cells(figures: "DurationFigures") -> tuple[str, ...]:
    return tuple(duration(value) for value in (figures.mean, figures.p50, figures.p95, figures.p99, figures.most))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _print_workflows(report: "StatsReport") -> None:
    if not report.workflows:
        return
    print("\nWorkflows")
    rows = [
        (one.task, one.ended, f"{one.ended_rate:.2f}", _share(one.success_ratio), *(_cells(one.total) if one.total else [""] * 5))
        for one in report.workflows
    ]
    print_table(("WORKFLOW", "ENDED", "PER SECOND", "SUCCESS", "MEAN", "P50", "P95", "P99", "MAX"), rows, shorten=("WORKFLOW",))


def _print_failures(report: "StatsReport") -> None:
    if not report.failures:
        return
    print("\nFailures")
    rows = [(one.task, one.error, one.count, _share(one.share)) for one in report.failures[:ROWS]]
    print_table(("TASK", "ERROR", "COUNT", "SHARE"), rows, shorten=("ERROR", "TASK"))


def _print_bottlenecks(report: "StatsReport") -> None:
    print("\nWhere the time goes")
    rows = [
        (one.task, one.queue, _share(one.share), duration(one.wait_seconds), duration(one.run_seconds), f"mostly {one.cause}")
        for one in report.bottlenecks[:ROWS]
    ]
    print_table(("TASK", "QUEUE", "SHARE", "WAITED", "RAN", ""), rows, shorten=("TASK", "QUEUE"))
    print("\nSlowest attempts")
    slow = [(one.task, one.key, one.id, one.attempt, duration(one.seconds), one.result) for one in report.slowest]
    print_table(("TASK", "STEP", "ID", "ATTEMPT", "RAN", "RESULT"), slow, shorten=("ID", "TASK"))
