"""Analytics and alerts: windows of figures over the lifecycle events, and rules that raise alerts. See README.md.

Only `feed` and `faust_repair` import Faust, and only `service` imports them: it is a module to import by name.
"""

from .actions import records_of, silenced
from .book import ALL_KEYS, AlertId, AlertState, Book
from .facts import TaskFact, facts_of
from .history import RuleTrial, SimulatedAlert, lead_seconds
from .matching import Match
from .moments import micros, micros_of, moment_of, time_of
from .reading import count_range, events_in, merged, ranges, read_book, read_into
from .reports import SeriesReport, Statistics, StatsReport, StatsSelection, report_of
from .rule_kinds import Rule
from .rules import parse_rules
from .spread import DurationFigures
from .view import Shape, View, ViewContents, plain
from .windows import TallyWindow, Windows

__all__ = [
    "ALL_KEYS",
    "AlertId",
    "AlertState",
    "Book",
    "DurationFigures",
    "Match",
    "Rule",
    "RuleTrial",
    "SeriesReport",
    "Shape",
    "SimulatedAlert",
    "Statistics",
    "StatsReport",
    "StatsSelection",
    "TallyWindow",
    "TaskFact",
    "View",
    "ViewContents",
    "Windows",
    "count_range",
    "events_in",
    "facts_of",
    "lead_seconds",
    "merged",
    "micros",
    "micros_of",
    "moment_of",
    "parse_rules",
    "plain",
    "ranges",
    "read_book",
    "read_into",
    "records_of",
    "report_of",
    "silenced",
    "time_of",
]
