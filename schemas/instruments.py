"""The catalogue of all instruments (metrics) of the hub: name, kind, unit, labels, buckets and origin of each, declared once.

Names are those of OpenTelemetry (`hub.task.run.duration`), units those of UCUM; `prometheus_name` derives the name in Prometheus
(`hub_task_run_duration_seconds`). Labels have few values: names of tasks, queues and types. Ids are never labels: a trace links a
measurement with its task (exemplars). `result` has the values of OpenTelemetry's CI/CD conventions: success, failure (the task's
fault), error (the system's fault), timeout, cancellation, skip.
"""

import re
from typing import Literal, NamedTuple

InstrumentKind = Literal["counter", "updown", "gauge", "histogram"]
"""counter: a total that only grows. updown: an amount that may be added up over processes. gauge: a value that may not (an age, a
lag). histogram: a distribution in buckets."""

Origin = Literal["events", "engine", "broker", "worker", "delivery", "receiver", "subscriber", "analytics", "process"]
"""Who writes the instrument: the subscriber `metrics` (from lifecycle events), a part of the hub, any subscriber (`subscriber`,
with its id as the first label), or every process."""

#: Run times of tasks, from 10 ms to a day (seconds).
RUN_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0),
)
#: Waits for a worker, from 5 ms to an hour (seconds).
WAIT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0, 3600.0)
#: Operations: the bounds of OpenTelemetry's messaging conventions, and shorter ones (seconds).
OPERATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: What OpenTelemetry's messaging conventions require for their histograms (seconds).
MESSAGING_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
#: Numbers of records.
COUNT_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)

#: Names that exporters add to every series, and names that Prometheus uses itself.
RESERVED_LABELS = frozenset({"role", "process", "job", "instance", "le", "quantile", "trace_id"})

NAME = re.compile(r"[a-z][a-z0-9]*(?:[._][a-z0-9]+)*")
"""The names of instruments and of labels (which have no dots)."""

_UNITS = {"s": "seconds", "By": "bytes"}


class Instrument(NamedTuple):
    """One instrument. `bounds`: upper limits of the buckets of a histogram, ascending, in its unit; a value that equals a limit
    is in that bucket. A label whose value is empty is absent."""

    name: str
    kind: InstrumentKind
    unit: str
    labels: tuple[str, ...]
    description: str
    origin: Origin | None = None
    bounds: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """The name in Prometheus's text format."""
        return prometheus_name(self.name, self.unit, self.kind)


def prometheus_name(name: str, unit: str, kind: InstrumentKind) -> str:
    """The name in Prometheus of an instrument: dots become underscores; the unit is a suffix (`_seconds`, `_bytes`; none for
    units in braces); counters end with `_total`. The same as in OpenTelemetry's "Prometheus and OpenMetrics Compatibility"."""
    suffix = unit_suffix(unit)
    parts = [name.replace(".", "_"), *([suffix] if suffix else []), *(["total"] if kind == "counter" else [])]
    return "_".join(parts)


def unit_suffix(unit: str) -> str:
    """The unit as a word of Prometheus: "seconds", "bytes"; empty for units in braces."""
    return _UNITS.get(unit, "")


def attribute_name(label: str) -> str:
    """The name of a label as an attribute in OTLP: those of OpenTelemetry's conventions have dots (`error_type` is `error.type`),
    others are the same."""
    return label.replace("_", ".") if label == "error_type" or label.startswith("messaging_") else label


_TASK = ("namespace", "task")
_MESSAGING = ("messaging_system", "messaging_operation_name", "messaging_destination_name")

_EVENTS: tuple[tuple[InstrumentKind, str, str, tuple[str, ...], str, tuple[float, ...]], ...] = (
    (
        "histogram",
        "hub.task.run.duration",
        "s",
        (*_TASK, "queue", "result", "error_type"),
        "Time from the creation of a task to its end, the latency that a submitter sees; deliberate delays are included.",
        RUN_BOUNDS,
    ),
    (
        "histogram",
        "hub.task.attempt.duration",
        "s",
        (*_TASK, "queue", "result", "error_type"),
        "Run time of the body of an attempt, unless its worker was lost.",
        RUN_BOUNDS,
    ),
    (
        "histogram",
        "hub.workflow.run.duration",
        "s",
        (*_TASK, "result", "error_type"),
        "Time from the creation of a workflow to its end.",
        RUN_BOUNDS,
    ),
    (
        "histogram",
        "hub.queue.wait.duration",
        "s",
        ("namespace", "queue"),
        "Time from when a task became ready to the start of its body, per attempt; delays and backoff are not included.",
        WAIT_BOUNDS,
    ),
    ("counter", "hub.task.created", "{task}", (*_TASK, "queue"), "Created tasks, with steps of workflows.", ()),
    ("counter", "hub.task.results", "{task}", (*_TASK, "queue", "result"), "Ended tasks by result.", ()),
    (
        "counter",
        "hub.attempts",
        "{attempt}",
        (*_TASK, "queue", "outcome"),
        "Ended attempts: success is goodput; failure, timeout, lost, cancellation are waste; released, superseded: not started.",
        (),
    ),
    ("counter", "hub.task.retries", "{retry}", (*_TASK, "reason"), "Scheduled retries by cause: error, timeout, lost.", ()),
    (
        "counter",
        "hub.task.timeouts",
        "{timeout}",
        (*_TASK, "reason"),
        "Exceeded timeouts: of an attempt, of the start (the task expired), or total.",
        (),
    ),
    ("counter", "hub.task.cancellations", "{task}", _TASK, "Tasks and workflows that were cancelled on request.", ()),
    ("counter", "hub.task.deduplications", "{submission}", (), "Submissions that were duplicates of an earlier one.", ()),
    ("counter", "hub.task.rejections", "{request}", ("report", "code"), "Rejected submissions and requests.", ()),
    ("counter", "hub.attempt.rejections", "{report}", ("report", "code"), "Rejected reports of workers.", ()),
    ("counter", "hub.worker.losses", "{worker}", ("pool",), "Workers that were lost.", ()),
    ("counter", "hub.engine.dead_letters", "{record}", ("kind",), "Dead-lettered records (report) and timers (timer).", ()),
    (
        "counter",
        "hub.alert.transitions",
        "{transition}",
        ("rule", "severity", "state"),
        "Changes of alerts by their new state: fired, resolved, silenced.",
        (),
    ),
    ("counter", "hub.events.published", "{event}", ("type",), "Lifecycle events by type.", ()),
)

_PARTS: dict[Origin, tuple[tuple[InstrumentKind, str, str, tuple[str, ...], str, tuple[float, ...]], ...]] = {
    "events": _EVENTS,
    "engine": (
        ("updown", "hub.task.active", "{task}", (*_TASK, "state"), "Tasks and workflows that have not ended, by state.", ()),
        (
            "histogram",
            "hub.task.schedule.delay",
            "s",
            ("timer",),
            "Time from when a timer was due until it took effect, by kind: start, retry, attempt, expire, total.",
            OPERATION_BOUNDS,
        ),
        ("updown", "hub.queue.depth", "{task}", ("queue",), "Tasks that are ready and wait for a worker.", ()),
        ("gauge", "hub.queue.oldest.age", "s", ("queue",), "Time since the longest waiting task of the queue became ready.", ()),
        ("counter", "hub.queue.arrivals", "{task}", ("queue",), "Tasks that became ready for the first time.", ()),
        ("counter", "hub.queue.completions", "{task}", ("queue",), "Tasks that ended after they were dispatched.", ()),
        (
            "gauge",
            "hub.queue.drain.time",
            "s",
            ("queue",),
            "Estimated time until the waiting tasks have been run, at the rates of the last minute; absent if the queue grows.",
            (),
        ),
        ("updown", "hub.worker.count", "{worker}", ("pool", "state"), "Workers by state: active, silent, draining.", ()),
        (
            "histogram",
            "hub.engine.batch.duration",
            "s",
            ("partition",),
            "Time to process a batch of records, without its commit.",
            OPERATION_BOUNDS,
        ),
        ("histogram", "hub.engine.batch.records", "{record}", ("partition",), "Records of hub.intake per batch.", COUNT_BOUNDS),
        ("histogram", "hub.engine.commit.duration", "s", ("partition",), "Time to commit a transaction.", OPERATION_BOUNDS),
        ("histogram", "hub.engine.restore.duration", "s", ("partition",), "Time to restore a partition's state.", WAIT_BOUNDS),
        ("gauge", "hub.engine.watermark.age", "s", ("partition",), "Age of the time up to which all reports have been read.", ()),
        ("gauge", "hub.engine.lag", "{record}", ("partition",), "Records of hub.intake that are not processed.", ()),
        ("updown", "hub.engine.live_tasks", "{task}", ("partition",), "Tasks of the partition that have not ended.", ()),
    ),
    "broker": (
        ("counter", "hub.broker.requests", "{request}", ("api",), "Requests by name of the API.", ()),
        ("histogram", "hub.broker.request.duration", "s", ("api",), "Time to respond, waiting included.", OPERATION_BOUNDS),
        ("counter", "hub.broker.produced.size", "By", (), "Size of the record batches that were appended.", ()),
        ("counter", "hub.broker.produced.records", "{record}", (), "Records that were appended.", ()),
        ("counter", "hub.broker.fetched.size", "By", (), "Size of the record batches that were returned to consumers.", ()),
        (
            "histogram",
            "hub.broker.fsync.duration",
            "s",
            (),
            "Time to write to the journal and sync it to disk.",
            OPERATION_BOUNDS,
        ),
        ("updown", "hub.broker.log.size", "By", (), "Size of all logs on disk.", ()),
        ("updown", "hub.broker.connections", "{connection}", (), "Open connections of clients.", ()),
        ("gauge", "hub.broker.disk.free", "By", (), "Free space that the broker can use.", ()),
    ),
    "worker": (
        ("counter", "hub.worker.commands", "{command}", ("pool", "type"), "Commands that were received, by type.", ()),
        ("histogram", "hub.worker.body.duration", "s", (*_TASK, "outcome"), "Run time of bodies, by the worker.", RUN_BOUNDS),
        ("updown", "hub.worker.slots", "{slot}", ("pool", "state"), "Slots of workers: used, free.", ()),
        ("counter", "hub.worker.heartbeats", "{heartbeat}", ("pool",), "Heartbeats that were acknowledged.", ()),
        (
            "counter",
            "hub.worker.leases.lost",
            "{lease}",
            ("pool",),
            "Attempts that were stopped because their lease could not be renewed in time.",
            (),
        ),
        ("gauge", "hub.worker.loop.delay", "s", ("pool",), "Delay of the worker's event loop at its last check.", ()),
        (
            "histogram",
            "messaging.process.duration",
            "s",
            (*_MESSAGING, "error_type"),
            "Run time of bodies by queue, in the terms of OpenTelemetry's messaging conventions.",
            MESSAGING_BOUNDS,
        ),
        (
            "counter",
            "messaging.client.consumed.messages",
            "{message}",
            _MESSAGING,
            "Records that an engine (of hub.intake) or a worker (of its commands topic) has received.",
            (),
        ),
    ),
    "delivery": (
        (
            "counter",
            "hub.subscriber.deliveries",
            "{event}",
            ("subscriber", "outcome"),
            "Deliveries by outcome: ok, retry, postponed, drop, skip, dlq, timeout.",
            (),
        ),
        (
            "histogram",
            "hub.subscriber.delivery.duration",
            "s",
            ("subscriber",),
            "Time that a handler took for one call.",
            OPERATION_BOUNDS,
        ),
        ("gauge", "hub.subscriber.lag", "{record}", ("subscriber",), "Records of hub.events that are not acknowledged.", ()),
        ("gauge", "hub.subscriber.lag.time", "s", ("subscriber",), "Age of the oldest event that is not acknowledged.", ()),
        ("updown", "hub.subscriber.inflight", "{event}", ("subscriber",), "Events that are being handled or wait for it.", ()),
        ("counter", "hub.subscriber.dead_letters", "{event}", ("subscriber",), "Dead-lettered events.", ()),
        ("gauge", "hub.subscriber.state", "{state}", ("subscriber", "state"), "1 for the present state, else 0.", ()),
        ("counter", "hub.subscriber.restarts", "{restart}", ("subscriber",), "Restarts after a failure of its code.", ()),
    ),
    "receiver": (
        (
            "counter",
            "hub.receiver.alerts",
            "{alert}",
            ("outcome",),
            "Received alerts by outcome: submitted, repeated, ignored (from the hub), resolved, cancelled, rejected, failed.",
            (),
        ),
    ),
    "subscriber": (
        (
            "counter",
            "hub.alert.notifications",
            "{notification}",
            ("subscriber", "channel", "rule", "severity", "status", "outcome"),
            "Notifications of alert targets by outcome: sent, unavailable (sent again later), rejected, failed.",
            (),
        ),
    ),
    "analytics": (("gauge", "hub.alert.active", "{alert}", ("rule", "severity"), "Alerts of rules that fire.", ()),),
    "process": (
        ("counter", "hub.process.cpu.time", "s", (), "CPU time of the process, user and system.", ()),
        ("gauge", "hub.process.memory", "By", (), "Resident memory of the process.", ()),
        ("gauge", "hub.process.uptime", "s", (), "Time since the start of the process.", ()),
        ("gauge", "hub.process.up", "{process}", (), "1 while the process runs.", ()),
        ("counter", "hub.metrics.series.overflow", "{request}", ("instrument",), "Requests for series beyond the limit.", ()),
    ),
}


INSTRUMENTS: dict[str, Instrument] = {
    name: Instrument(name, kind, unit, labels, description, origin, bounds)
    for origin, rows in _PARTS.items()
    for kind, name, unit, labels, description, bounds in rows
}
"""All instruments of the hub by name."""
