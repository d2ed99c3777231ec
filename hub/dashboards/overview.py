"""The dashboard "overview": service level, throughput, tasks that fail or are slow, latency."""

from .dashboard import Dashboard
from .layout import Row, large, medium, small
from .panels import PER_SECOND, Levels, Query, TableColumn, graph, stat, table, with_exemplars
from .promql import RANGE, counted, increase, largest, or_zero, quantile, rate, series, total
from .recording import BUDGET_LEFT, COUNTED, ERRORS, OVERALL_WINDOWS, RESULTS, overall_error_ratio
from .variables import constant, data_source

RUN = "hub.task.run.duration"
TASK_LINK = {
    "field": "task",
    "title": "Open the task type",
    "url": "/d/hub-task-type?${__url_time_range}&var-task=${__value.text}",
}
FIRING = 'count(ALERTS{alertname=~"Hub.*", alertstate="firing", severity!="none"})'


def overview(objective: float) -> Dashboard:
    """`objective`: the share of tasks that should succeed."""
    return Dashboard(
        "hub-overview",
        "overview.json",
        "taskhub / Overview",
        "Service level, throughput and latency of all tasks; what fails and what is slow.",
        [data_source("prometheus", "Metrics"), constant("objective", f"{objective:g}")],
        [_service_level(objective), _throughput(), _tasks(), _latency()],
    )


def _service_level(objective: float) -> Row:
    budget = 1 - objective
    ratio = f"1 - {total(increase(RESULTS, result=ERRORS))} / ({total(increase(RESULTS, result=COUNTED))} > 0)"
    numbers = small(
        stat(
            "Succeeded",
            ratio,
            "percentunit",
            "Share of the tasks that ended in the time range and succeeded; cancelled and skipped tasks do not count.",
            Levels(1 - budget, 1 - 10 * budget, rising=False),
            decimals=2,
        ),
        stat(
            "Error budget left",
            BUDGET_LEFT,
            "percentunit",
            "Share of the errors that the objective allows in 30 days and that have not happened. Needs the recording rules.",
            Levels(0.5, 0.0, rising=False),
        ),
        stat(
            "Burn rate (1 h)",
            f"{overall_error_ratio('1h')} / (1 - $objective)",
            "none",
            "How fast the budget is spent: 1 spends it in 30 days, 14.4 spends 2 % in an hour. Needs the recording rules.",
            Levels(1, 14.4),
        ),
        stat(
            "Oldest waiting task",
            largest(series("hub.queue.oldest.age")),
            "s",
            "Time since the longest waiting task of all queues became ready.",
            Levels(60, 300),
        ),
        stat(
            "Workers",
            or_zero(total(series("hub.worker.count", state="active"))),
            "none",
            "Workers that send heartbeats and do not drain.",
            Levels(1, 0.5, rising=False),
        ),
        stat(
            "Firing alerts",
            or_zero(FIRING),
            "none",
            "Alerts of the rules for Prometheus that fire now, without the watchdog.",
            Levels(1, 1),
        ),
    )
    burn = [Query(f"{overall_error_ratio(window)} / (1 - $objective)", window) for window in OVERALL_WINDOWS]
    return Row(
        "Service level",
        [
            *numbers,
            *large(
                graph("Burn rate", burn, "none", "Error ratio in relation to what the objective allows, over several windows."),
                graph(
                    "Active tasks",
                    [Query(total(series("hub.task.active"), "state"), "{{state}}")],
                    "none",
                    "Tasks that have not ended, by state.",
                    stacked=True,
                ),
            ),
        ],
    )


def _throughput() -> Row:
    return Row(
        "Throughput",
        medium(
            graph("Created tasks", [Query(total(rate("hub.task.created"), "queue"), "{{queue}}")], PER_SECOND, "Per second."),
            graph(
                "Ended tasks",
                [Query(total(rate(RESULTS), "result"), "{{result}}")],
                PER_SECOND,
                "Per second, by result.",
                stacked=True,
            ),
            graph(
                "Attempts",
                [Query(total(rate("hub.attempts"), "outcome"), "{{outcome}}")],
                PER_SECOND,
                "Ended attempts per second: success is goodput, the rest is waste.",
                stacked=True,
            ),
            graph(
                "Requests without effect",
                [
                    Query(total(rate("hub.task.rejections"), "report", "code"), "{{report}}: {{code}}"),
                    Query(total(rate("hub.task.deduplications")), "duplicates"),
                ],
                PER_SECOND,
                "Rejected submissions and requests by reason, and duplicate submissions.",
            ),
            graph(
                "Retries",
                [Query(total(rate("hub.task.retries"), "reason"), "{{reason}}")],
                PER_SECOND,
                "Scheduled retries per second, by cause.",
            ),
            graph(
                "Timeouts and cancellations",
                [
                    Query(total(rate("hub.task.timeouts"), "reason"), "timeout: {{reason}}"),
                    Query(total(rate("hub.task.cancellations")), "cancelled"),
                ],
                PER_SECOND,
                "Exceeded timeouts by kind, and cancelled tasks and workflows.",
            ),
        ),
    )


def _tasks() -> Row:
    ended = counted(RESULTS, RANGE, "namespace", "task", result=COUNTED)
    errors = counted(RESULTS, RANGE, "namespace", "task", result=ERRORS)
    p95 = quantile(0.95, RUN, "namespace", "task", window=RANGE)
    return Row(
        "Task types",
        large(
            table(
                "Most errors",
                [
                    TableColumn("Errors", f"topk(10, {errors})"),
                    TableColumn("Share", f"{errors} / {ended} and topk(10, {errors})", "percentunit", Levels(0.01, 0.05)),
                ],
                "Task types with the most errors in the time range.",
                TASK_LINK,
            ),
            table(
                "Slowest",
                [TableColumn("p95", f"topk(10, {p95})", "s"), TableColumn("Ended", f"{ended} and topk(10, {p95})")],
                "Task types by the time from creation to end, 95th percentile in the time range.",
                TASK_LINK,
            ),
        ),
    )


def _latency() -> Row:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))

    def quantiles(name: str) -> list[Query]:
        return [Query(quantile(share, name), title) for share, title in shares]

    return Row(
        "Latency",
        medium(
            with_exemplars(graph("Tasks", quantiles(RUN), "s", "Time from its creation to its end.")),
            with_exemplars(graph("Workflows", quantiles("hub.workflow.run.duration"), "s", "Time from its creation to its end.")),
            graph("Wait for a worker", quantiles("hub.queue.wait.duration"), "s", "Time from ready to the start of the body."),
        ),
    )
