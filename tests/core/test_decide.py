"""The dispatch tables: every report type and every kind of timer has a handler."""

import ast
from pathlib import Path

from hub.core import REQUESTS
from hub.core.decide import HANDLERS
from hub.core.time.timers import TIMERS
from schemas.reports import REPORTS

CORE = Path(__file__).parents[2] / "hub" / "core"
#: Timers that are not about a task in memory (see `core/time/due.py`).
TASKLESS = {"dispatch", "retire"}


def test_every_report_has_a_handler_and_nothing_else_has() -> None:
    assert set(HANDLERS) == set(REPORTS.values())
    assert set(REPORTS.values()) > REQUESTS


def test_every_kind_of_timer_that_the_core_adds_has_a_handler() -> None:
    """`agenda.add(due, kind, ...)` is found in the text."""
    kinds = set()
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("agenda.add"):
                kinds.add(ast.literal_eval(node.args[1]))
    assert kinds == {*TIMERS, *TASKLESS}
