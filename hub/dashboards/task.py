"""The dashboard "one task": its trace, its events, and the metrics of its task type."""

from .dashboard import Dashboard
from .layout import Row, medium, small, wide
from .panels import PER_SECOND, Query, graph, logs, stat, text, trace, traces, with_exemplars
from .promql import RANGE, increase, quantile, rate, total
from .recording import RESULTS
from .variables import data_source, entered, values

RUN, ATTEMPT = "hub.task.run.duration", "hub.task.attempt.duration"
CHOSEN = {"task": "~$name"}

GUIDE = """Enter the id of a task or workflow in **Task id**. The list of traces shows its trace id: click on it, or enter it in
**Trace id**. For a task that the client gave an id (a UUIDv7), the trace id is the digits of the task id, without hyphens.
`hub task get ID` and `hub task watch ID` show the same task in a terminal."""


def task() -> Dashboard:
    """For the variables task_id, trace_id and name."""
    name = {**values("task", "Task type", "hub.task.created"), "name": "name"}
    return Dashboard(
        "hub-task",
        "task.json",
        "taskhub / One task",
        "Investigate a task by its id: trace, events, and the metrics of its type for comparison.",
        [
            data_source("prometheus", "Metrics"),
            data_source("loki", "Logs"),
            data_source("tempo", "Traces"),
            entered("task_id", "Task id"),
            entered("trace_id", "Trace id"),
            name,
        ],
        [_trace(), _events(), _type()],
    )


def _trace() -> Row:
    query = '{ span.hub.task.id = "$task_id" || span.hub.root_run.id = "$task_id" }'
    return Row(
        "Trace",
        [
            *wide(text(GUIDE), 3),
            *wide(
                traces("Traces of the task", query, "Traces that contain a span of the task, or of a step of the workflow."), 6
            ),
            *wide(
                trace(
                    "Trace",
                    "$trace_id",
                    "Waits, queues, attempts and runs as spans; a failed attempt has the status error, a retry follows it.",
                ),
                14,
            ),
        ],
    )


def _events() -> Row:
    own = '{service_name="hub"} | hub_task_id="$task_id"'
    family = '{service_name="hub"} | hub_root_run_id="$task_id" | hub_task_id!="$task_id"'
    return Row(
        "Events",
        [
            *wide(logs("Events of the task", own, "One log record per event of the task.")),
            *wide(logs("Events of the steps", family, "Events of the other tasks of the workflow.")),
        ],
    )


def _type() -> Row:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    durations = {name: [Query(quantile(share, name, **CHOSEN), title) for share, title in shares] for name in (RUN, ATTEMPT)}
    return Row(
        "Its task type",
        [
            *small(
                stat("p50", quantile(0.5, RUN, window=RANGE, **CHOSEN), "s", "From creation to end, median in the time range."),
                stat("p95", quantile(0.95, RUN, window=RANGE, **CHOSEN), "s", "From creation to end, 95th percentile."),
                stat("Ended", total(increase(RESULTS, **CHOSEN)), "short", "Ended tasks of this type in the time range."),
                stat("Retries", total(increase("hub.task.retries", **CHOSEN)), "short", "Scheduled retries in the time range."),
            ),
            *medium(
                with_exemplars(graph("From creation to end", durations[RUN], "s", "Points are exemplars: they link to a trace.")),
                with_exemplars(graph("Attempts", durations[ATTEMPT], "s", "Run time of the body.")),
                graph(
                    "Results",
                    [Query(total(rate(RESULTS, **CHOSEN), "result"), "{{result}}")],
                    PER_SECOND,
                    "Ended tasks per second, by result.",
                    stacked=True,
                ),
            ),
        ],
    )
