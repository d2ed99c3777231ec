"""The dashboard "task type": rate, errors and durations of one or several task types, attempts, retries, the last failures."""

from .dashboard import Dashboard
from .layout import Row, large, medium, small, wide
from .panels import PER_SECOND, Levels, Query, graph, heatmap, logs, stat, with_exemplars
from .promql import RANGE, RATE, bucket_rate, count_rate, increase, quantile, rate, series, total
from .recording import COUNTED, ERRORS, RESULTS
from .variables import data_source, values

RUN, ATTEMPT, WAIT = "hub.task.run.duration", "hub.task.attempt.duration", "hub.queue.wait.duration"
SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
CHOSEN = {"namespace": "~$namespace", "task": "~$task"}


def task_type() -> Dashboard:
    """For the variables namespace and task, which may have several values."""
    return Dashboard(
        "hub-task-type",
        "task-type.json",
        "taskhub / Task type",
        "Rate, errors and durations of chosen task types, their attempts and retries, and their last failures.",
        [
            data_source("prometheus", "Metrics"),
            data_source("loki", "Logs"),
            values("namespace", "Namespace", "hub.task.created"),
            values("task", "Task", "hub.task.created", namespace="~$namespace"),
        ],
        [_numbers(), _durations(), _attempts(), _errors()],
    )


def _numbers() -> Row:
    ended, errors = (increase(RESULTS, result=result, **CHOSEN) for result in (COUNTED, ERRORS))
    executed = increase("hub.attempts", outcome="!~released|superseded", **CHOSEN)
    return Row(
        "Rate and errors",
        [
            *small(
                stat("Created", total(increase("hub.task.created", **CHOSEN)), "short", "Created tasks in the time range."),
                stat("Ended", total(increase(RESULTS, **CHOSEN)), "short", "Ended tasks in the time range."),
                stat(
                    "Succeeded",
                    f"1 - {total(errors)} / ({total(ended)} > 0)",
                    "percentunit",
                    "Share of the ended tasks that succeeded; cancelled and skipped tasks do not count.",
                    Levels(0.999, 0.99, rising=False),
                    decimals=2,
                ),
                stat(
                    "p95",
                    quantile(0.95, RUN, window=RANGE, **CHOSEN),
                    "s",
                    "Time from creation to end, 95th percentile in the time range.",
                ),
                stat(
                    "Attempts per task",
                    f"{total(executed)} / ({total(ended)} > 0)",
                    "none",
                    "Executed attempts per ended task: 1 without retries.",
                    Levels(1.2, 2),
                ),
                stat("Retries", total(increase("hub.task.retries", **CHOSEN)), "short", "Scheduled retries in the time range."),
            ),
            *large(
                graph(
                    "Created tasks",
                    [Query(total(rate("hub.task.created", **CHOSEN), "task"), "{{task}}")],
                    PER_SECOND,
                    "Per second, by task.",
                ),
                graph(
                    "Ended tasks",
                    [Query(total(rate(RESULTS, **CHOSEN), "result"), "{{result}}")],
                    PER_SECOND,
                    "Per second, by result.",
                    stacked=True,
                ),
            ),
        ],
    )


def _quantiles(name: str, **labels: str) -> list[Query]:
    return [Query(quantile(share, name, **labels), title) for share, title in SHARES]


def _durations() -> Row:
    return Row(
        "Durations",
        [
            *medium(
                with_exemplars(graph("From creation to end", _quantiles(RUN, **CHOSEN), "s", "Deliberate delays are included.")),
                with_exemplars(graph("Attempts", _quantiles(ATTEMPT, **CHOSEN), "s", "Run time of the body.")),
                graph(
                    "Wait for a worker",
                    _quantiles(WAIT, namespace="~$namespace"),
                    "s",
                    "Time from ready to the start of the body, in all queues of the namespace.",
                ),
            ),
            *large(
                heatmap(
                    "Distribution: from creation to end",
                    total(bucket_rate(RUN, **CHOSEN), "le"),
                    "s",
                    "Distribution over time. Points are exemplars: they link to the trace.",
                ),
                heatmap("Distribution: attempts", total(bucket_rate(ATTEMPT, **CHOSEN), "le"), "s", "Distribution over time."),
            ),
        ],
    )


def _attempts() -> Row:
    return Row(
        "Attempts",
        medium(
            graph(
                "Active tasks",
                [Query(total(series("hub.task.active", **CHOSEN), "state"), "{{state}}")],
                "none",
                "Tasks that have not ended, by state.",
                stacked=True,
            ),
            graph(
                "Outcomes",
                [Query(total(rate("hub.attempts", **CHOSEN), "outcome"), "{{outcome}}")],
                PER_SECOND,
                "Ended attempts per second; released and superseded attempts were not started.",
                stacked=True,
            ),
            graph(
                "Retries",
                [Query(total(rate("hub.task.retries", **CHOSEN), "task", "reason"), "{{task}}: {{reason}}")],
                PER_SECOND,
                "Scheduled retries per second, by cause.",
            ),
            graph(
                "Timeouts and cancellations",
                [
                    Query(total(rate("hub.task.timeouts", **CHOSEN), "reason"), "timeout: {{reason}}"),
                    Query(total(rate("hub.task.cancellations", **CHOSEN)), "cancelled"),
                ],
                PER_SECOND,
                "Exceeded timeouts by kind, and cancellations.",
            ),
        ),
    )


def _errors() -> Row:
    of_tasks = count_rate(RUN, RATE, result=ERRORS, **CHOSEN)
    of_attempts = count_rate(ATTEMPT, RATE, result="!~success|cancellation", **CHOSEN)
    failures = '{service_name="hub"} | hub_namespace=~"$namespace" | hub_task_name=~"$task" | severity_text=~"ERROR|WARN"'
    return Row(
        "Errors",
        [
            *large(
                graph(
                    "Tasks by error",
                    [Query(total(of_tasks, "task", "error_type"), "{{task}}: {{error_type}}")],
                    PER_SECOND,
                    "Tasks that ended with an error, by the type of the error.",
                ),
                graph(
                    "Attempts by error",
                    [Query(total(of_attempts, "task", "error_type"), "{{task}}: {{error_type}}")],
                    PER_SECOND,
                    "Attempts that failed, by the type of the error; cancelled ones have none.",
                ),
            ),
            *wide(logs("Last failures", failures, "Events of failures from the log, with links to their traces.")),
        ],
    )
