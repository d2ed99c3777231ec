"""Recording rules of Prometheus: the share of tasks that ended with an error, over several windows, and the error budget.

An error is a result failure, error or timeout; cancelled and skipped tasks do not count. Names have the form
level:metric:operation. Source: "The Site Reliability Workbook", chapter 5 (Alerting on SLOs).
"""

from typing import NamedTuple

from .promql import rate, total

RESULTS = "hub.task.results"
ERRORS = "~failure|error|timeout"
COUNTED = "~success|failure|error|timeout"

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
OVERALL_WINDOWS = ("5m", "1h", "6h", "3d")
BUDGET_DAYS = 30
BUDGET_LEFT = f"hub:task_error_budget:remaining_{BUDGET_DAYS}d"
ERROR_RATE, COUNTED_RATE = "hub:task_errors:rate5m", "hub:tasks_counted:rate5m"


class RecordingRule(NamedTuple):
    """A rule: the series `name` has the value of `expression`."""

    name: str
    expression: str


def error_ratio(window: str) -> str:
    """The recorded share of errors by namespace and task."""
    return f"namespace_task:hub_task_errors:ratio_rate{window}"


def overall_error_ratio(window: str) -> str:
    """The recorded share of errors of all tasks."""
    return f"hub:task_errors:ratio_rate{window}"


def recordings(objective: float) -> list[RecordingRule]:
    """All recording rules. `objective`: the share of tasks that should succeed, such as 0.999."""
    by_task = [RecordingRule(error_ratio(window), _ratio(window, "namespace", "task")) for window in WINDOWS]
    overall = [RecordingRule(overall_error_ratio(window), _ratio(window)) for window in OVERALL_WINDOWS]
    return [*by_task, *overall, *_budget(objective)]


def _ratio(window: str, *by: str) -> str:
    errors = total(rate(RESULTS, window, result=ERRORS), *by)
    counted = total(rate(RESULTS, window, result=COUNTED), *by)
    return f"{errors}\n/ ({counted} > 0)"


def _budget(objective: float) -> list[RecordingRule]:
    """What is left of the budget: 1 is all of it, 0 none. The mean of recorded rates is cheaper than a rate over all days."""
    errors, counted = (f"avg_over_time({name}[{BUDGET_DAYS}d])" for name in (ERROR_RATE, COUNTED_RATE))
    return [
        RecordingRule(ERROR_RATE, total(rate(RESULTS, "5m", result=ERRORS))),
        RecordingRule(COUNTED_RATE, total(rate(RESULTS, "5m", result=COUNTED))),
        RecordingRule(BUDGET_LEFT, f"1 - {errors}\n/ ({counted} > 0)\n/ (1 - {objective:g})"),
    ]
