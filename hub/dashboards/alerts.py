"""Alerts of Prometheus: spending of the error budget, and states of the hub that need an operator.

Severities: `page` needs an operator now, `ticket` in working hours, `none` is the dead man's switch. Sources: "The Site
Reliability Workbook", chapter 5 (multi-window, multi-burn-rate alerts); "Alerting" in Prometheus's documentation.
"""

from typing import Literal, NamedTuple

from .promql import increase, largest, new_in, or_zero, quantile, series, total
from .recording import COUNTED, RESULTS, error_ratio

Severity = Literal["page", "ticket", "none"]


class Alert(NamedTuple):
    """An alert. `lasting`: for how long the expression must hold. `summary`: one line; `action`: what to look at or to do.
    `dashboard`: uid and query of the dashboard that shows it. `window`: a label that distinguishes alerts of one name."""

    name: str
    expression: str
    lasting: str
    severity: Severity
    summary: str
    action: str
    dashboard: str = "hub-overview"
    window: str = ""


class Burn(NamedTuple):
    """A pair of windows: the budget is spent `factor` times too fast in both. `lasting`: until the alert fires."""

    long: str
    short: str
    factor: float
    severity: Severity
    lasting: str


BURNS = (
    Burn("1h", "5m", 14.4, "page", "2m"),
    Burn("6h", "30m", 6, "page", "15m"),
    Burn("1d", "2h", 3, "ticket", "1h"),
    Burn("3d", "6h", 1, "ticket", "3h"),
)
"""2 %, 5 %, 10 % and 10 % of the budget of 30 days, spent within the long window."""
TASKS_LEAST = 20
"""With fewer ended tasks in the long window, a few errors are no alert."""


def burn_alerts(objective: float) -> list[Alert]:
    """One alert per pair of windows, by namespace and task."""
    return [_burn(burn, 1 - objective) for burn in BURNS]


def _burn(burn: Burn, budget: float) -> Alert:
    limit = f"{burn.factor:g} * {budget:.6g}"
    enough = total(increase(RESULTS, burn.long, result=COUNTED), "namespace", "task")
    return Alert(
        "HubTaskErrorBudgetBurn",
        f"{error_ratio(burn.long)} > {limit}\nand {error_ratio(burn.short)} > {limit}\nand {enough} > {TASKS_LEAST}",
        burn.lasting,
        burn.severity,
        f"Task {{{{ $labels.task }}}} spends its error budget {burn.factor:g} times too fast",
        f"{{{{ $value | humanizePercentage }}}} of its tasks failed in {burn.long}; the last {burn.short} are over the limit too."
        " The dashboard shows the types of the errors and the last failures.",
        "hub-task-type?var-task={{ $labels.task }}",
        burn.long,
    )


def state_alerts() -> list[Alert]:
    """Alerts on the state of queues, workers, engine, subscribers, broker and processes."""
    return [*_queues(), *_engine(), *_subscribers(), *_broker(), *_processes()]


def _queues() -> list[Alert]:
    queue = "hub-queues?var-queue={{ $labels.queue }}"
    workers = or_zero(total(series("hub.worker.count", state="active")))
    lost, ended = (total(increase("hub.attempts", "15m", **labels), "queue") for labels in ({"outcome": "lost"}, {}))
    late = quantile(0.99, "hub.task.schedule.delay", "timer", window="10m")
    return [
        Alert(
            "HubQueueWaiting",
            f"{largest(series('hub.queue.oldest.age'), 'queue')} > 300",
            "5m",
            "page",
            "A task of queue {{ $labels.queue }} has waited {{ $value | humanizeDuration }} for a worker",
            "Start more workers for the queue, or find the tasks that occupy their slots.",
            queue,
        ),
        Alert(
            "HubQueueWithoutWorkers",
            f"{total(series('hub.queue.depth'), 'queue')} > 0\nand on () ({workers}) == 0",
            "2m",
            "page",
            "{{ $value }} tasks of queue {{ $labels.queue }} wait, and no worker runs",
            "Start a worker: `hub worker module:registry`. `hub status` lists the workers.",
            queue,
        ),
        Alert(
            "HubAttemptsLost",
            f"{lost} / {ended} > 0.05\nand {lost} > 5",
            "5m",
            "ticket",
            "{{ $value | humanizePercentage }} of the attempts of queue {{ $labels.queue }} were lost with their worker",
            "Workers end or hang: look at their logs, at their memory, and at handlers that block the event loop.",
            queue,
        ),
        Alert(
            "HubTimersLate",
            f"{late} > 5",
            "10m",
            "ticket",
            "Timers of the kind {{ $labels.timer }} are {{ $value | humanizeDuration }} late",
            "The engine does not keep up: look at its lag and at the time of its commits.",
            "hub-streams",
        ),
    ]


def _engine() -> list[Alert]:
    lag = series("hub.engine.lag")
    return [
        Alert(
            "HubEngineLagGrowing",
            f"{total(f'min_over_time({lag}[10m])', 'partition')} > 1000\nand {total(f'deriv({lag}[10m])', 'partition')} > 0",
            "10m",
            "page",
            "Partition {{ $labels.partition }} has {{ $value | humanize }} unprocessed records, and their number grows",
            "The engine gets more reports than it processes: look at the time of commits and at the CPU of its process.",
            "hub-streams",
        ),
        Alert(
            "HubEngineStalled",
            f"{largest(series('hub.engine.watermark.age'), 'partition')} > 60\nand {total(lag, 'partition')} > 0",
            "2m",
            "page",
            "Partition {{ $labels.partition }} has unprocessed records and processed none for {{ $value | humanizeDuration }}",
            "`hub health` of the engine names the failed check; its log has the error.",
            "hub-streams",
        ),
        Alert(
            "HubEngineDeadLetters",
            total(new_in("hub.engine.dead_letters", "15m"), "kind"),
            "0m",
            "ticket",
            "The engine could not process records or timers ({{ $labels.kind }})",
            "The events engine.report_dead_lettered and engine.timer_dead_lettered have the reason.",
            "hub-streams",
        ),
        Alert(
            "HubEngineCommitsSlow",
            f"{quantile(0.99, 'hub.engine.commit.duration', 'partition', window='10m')} > 1",
            "10m",
            "ticket",
            "Commits of partition {{ $labels.partition }} take {{ $value | humanizeDuration }} (p99)",
            "The broker is slow: look at the time of its syncs and at its disk.",
            "hub-streams",
        ),
    ]


def _subscribers() -> list[Alert]:
    dashboard = "hub-subscribers?var-subscriber={{ $labels.subscriber }}"
    state = series("hub.subscriber.state", state="~paused|failed|unavailable|blocked|reconnecting")
    return [
        Alert(
            "HubSubscriberNotRunning",
            f"{largest(state, 'subscriber', 'state')} == 1",
            "15m",
            "ticket",
            "Subscriber {{ $labels.subscriber }} is {{ $labels.state }}",
            "`hub subscribers list` shows the error; `hub subscribers resume` ends a pause.",
            dashboard,
        ),
        Alert(
            "HubSubscriberLagging",
            f"{largest(series('hub.subscriber.lag.time'), 'subscriber')} > 300",
            "10m",
            "ticket",
            "Subscriber {{ $labels.subscriber }} is {{ $value | humanizeDuration }} behind",
            "Its destination is slow or unavailable, or it needs a larger batch or more lanes.",
            dashboard,
        ),
        Alert(
            "HubSubscriberDeadLetters",
            total(new_in("hub.subscriber.dead_letters", "15m"), "subscriber"),
            "0m",
            "ticket",
            "Subscriber {{ $labels.subscriber }} dead-letters events",
            "`hub subscribers dlq list` shows them with their errors, `hub subscribers dlq retry` delivers them again.",
            dashboard,
        ),
    ]


def _broker() -> list[Alert]:
    free = series("hub.broker.disk.free")
    return [
        Alert(
            "HubDiskLow",
            f"{free} < 2e9",
            "5m",
            "page",
            "The broker can use {{ $value | humanize1024 }}B more of its disk",
            "Free space, or shorten the retention of topics. Without space the broker refuses writes.",
            "hub-streams",
        ),
        Alert(
            "HubDiskFilling",
            f"predict_linear({free}[6h], 86400) < 0\nand {free} < 50e9",
            "1h",
            "ticket",
            "The disk of the broker is full within a day at the present rate",
            "Free space, or shorten the retention of topics.",
            "hub-streams",
        ),
    ]


def _processes() -> list[Alert]:
    return [
        Alert(
            "HubTargetDown",
            'up{job="hub"} == 0',
            "2m",
            "page",
            "The metrics of {{ $labels.instance }} cannot be read",
            "The process has ended, hangs or cannot be reached: `hub health --url`.",
        ),
        Alert(
            "HubAbsent",
            f"absent({series('hub.process.up')})",
            "5m",
            "page",
            "No process of the hub is monitored",
            "No target of the job hub responds, or none is configured.",
        ),
        Alert(
            "HubTooManySeries",
            total(new_in("hub.metrics.series.overflow", "1h"), "instrument"),
            "0m",
            "ticket",
            "{{ $labels.instrument }} has more series than the limit",
            "Labels have too many values; the values beyond the limit are counted under other.",
            "hub-streams",
        ),
        Alert(
            "HubWatchdog",
            "vector(1)",
            "0m",
            "none",
            "This alert always fires",
            "Route it to a service that alerts an operator when it stops: then Prometheus or its notifications do not work.",
        ),
    ]
