"""Every measure as figures with their spread, and the document that shows them side by side for each broker."""

import statistics
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from .figures import percentile
from .measures import Round


class Figure(Struct, frozen=True, kw_only=True):
    """One measure: a value per round. `command` repeats it."""

    name: str
    unit: str
    values: list[float]
    command: str

    def text(self) -> str:
        """The median, and the least and the greatest value where there are several."""
        middle = _number(statistics.median(self.values))
        if len(self.values) == 1:
            return middle
        return f"{middle} ({_number(min(self.values))} to {_number(max(self.values))})"


class Column(Struct, kw_only=True):
    """What was measured on one broker. `about`: conditions of this column alone; `failures`: why a measure has no figure."""

    title: str
    figures: list[Figure] = []
    about: dict[str, str] = {}
    failures: dict[str, str] = {}

    def add(self, figure: Figure) -> None:
        """Keep a figure that was measured."""
        self.figures.append(figure)

    def find(self, name: str) -> Figure | None:
        """The figure of a measure, if there is one."""
        return next((figure for figure in self.figures if figure.name == name), None)


def _number(value: float) -> str:
    """Three digits that count, and whole numbers from a hundred on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def rates(name: str, unit: str, rounds: Sequence[Round], command: str) -> Figure:
    """Tasks per second of each round."""
    return Figure(name=name, unit=unit, values=[one.tasks / one.seconds for one in rounds], command=command)


def percentiles(name: str, share: float, rounds: Sequence[Round], command: str) -> Figure:
    """A percentile (0 to 1) of each round's durations, in milliseconds."""
    return Figure(name=name, unit="ms", values=[percentile(one.durations_ms, share) for one in rounds], command=command)


def render_markdown(columns: Sequence[Column], conditions: dict[str, str], command: str) -> str:
    """The document: conditions, one row a measure with a column a broker, and the command that repeats each."""
    names = list(dict.fromkeys(figure.name for column in columns for figure in column.figures))
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}`. A figure is the median of its rounds, in brackets the least and the",
        "greatest. It says how this release does on this machine, not what yours will do: repeat it there.",
        "",
        "## Conditions",
        "",
        *(f"- {name}: {value}" for name, value in conditions.items()),
        "",
        *_table(["", *(column.title for column in columns)], _condition_rows(columns)),
        "",
        "## Figures",
        "",
        *_table(["Measure", "Unit", *(column.title for column in columns), "Rounds", "Repeat with"], _rows(columns, names)),
        "",
        *(ON_KAFKA if len(columns) > 1 else ()),
        *MEANINGS,
    ]
    failures = [f"- {column.title}, {name}: {why}" for column in columns for name, why in column.failures.items()]
    if failures:
        lines += ["", "## Not measured", "", *failures]
    return "\n".join(lines) + "\n"


def _condition_rows(columns: Sequence[Column]) -> list[list[str]]:
    names = dict.fromkeys(name for column in columns for name in column.about)
    return [[name, *(column.about.get(name, "") for column in columns)] for name in names]


def _rows(columns: Sequence[Column], names: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in names:
        found = [column.find(name) for column in columns]
        one = next(figure for figure in found if figure is not None)
        texts = ["" if figure is None else figure.text() for figure in found]
        rows.append([name, one.unit, *texts, str(len(one.values)), f"`{one.command}`"])
    return rows


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in rows)]


ON_KAFKA = ("On Kafka the command also takes `--bootstrap HOST:PORT` and, for measures of a hub, `--with-engine`.", "")
MEANINGS = (
    "- **Throughput**: no-op tasks, submitted in chunks side by side, until the last outcome is at the client.",
    "- **Latency**: no-op tasks one at a time, from before the submission until the result is at the client.",
    "- **Fan-out**, **chain**: one workflow; its steps side by side between two others, or one after the other.",
    "- **Broker**: the broker alone, records of 500 bytes; a transaction holds ten.",
    "- **Engine**: its decisions and their encoding alone, on one core, without a broker.",
    "- **Restart**: from the start of the process that was ended with SIGKILL (the broker with the engine; on Kafka the engine)",
    "  until it has taken over every partition. On Kafka it waits until the group notices that the former member is gone.",
    "- **Memory**: of the hub's own processes together (PSS): after their start, after the throughput, and with the live tasks",
    "  of the restart. A Kafka broker is not one of them.",
    "- **Disk**: what the topics grew by, for each task of the throughput; one replica counts.",
)
