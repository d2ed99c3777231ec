"""The dashboard "queues and workers": waiting tasks, waits, workers and their slots, lost attempts, timers."""

from .dashboard import Dashboard
from .layout import Row, large, medium, small
from .panels import PER_SECOND, Levels, Query, graph, heatmap, stat
from .promql import bucket_rate, counted, largest, or_zero, quantile, rate, series, total
from .variables import data_source, values

SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
DESTINATION = "messaging_destination_name"
QUEUE, POOL = {"queue": "~$queue"}, {"pool": "~$pool"}


def queues() -> Dashboard:
    """For the variables queue and pool."""
    return Dashboard(
        "hub-queues",
        "queues-workers.json",
        "taskhub / Queues and workers",
        "Waiting tasks and how long they wait; workers, their slots and their losses; numbers for autoscaling.",
        [
            data_source("prometheus", "Metrics"),
            values("queue", "Queue", "hub.task.created"),
            values("pool", "Pool", "hub.worker.count"),
        ],
        [_numbers(), _queues(), _workers(), _handlers()],
    )


def _numbers() -> Row:
    used, slots = total(series("hub.worker.slots", state="used", **POOL)), total(series("hub.worker.slots", **POOL))
    wanted = f"{total(series('hub.queue.depth', **QUEUE))} + {used}"
    return Row(
        "Now",
        small(
            stat(
                "Waiting tasks", total(series("hub.queue.depth", **QUEUE)), "none", "Tasks that are ready and wait for a worker."
            ),
            stat(
                "Oldest waiting task",
                largest(series("hub.queue.oldest.age", **QUEUE)),
                "s",
                "Time since it became ready.",
                Levels(60, 300),
            ),
            stat(
                "Workers",
                or_zero(total(series("hub.worker.count", state="active", **POOL))),
                "none",
                "Workers that send heartbeats and do not drain.",
                Levels(1, 0.5, rising=False),
            ),
            stat("Used slots", f"{used} / ({slots} > 0)", "percentunit", "Share of the slots of workers.", Levels(0.8, 0.95)),
            stat(
                "Wanted slots", wanted, "none", "Used slots and waiting tasks: the number of slots at which no task would wait."
            ),
            stat(
                "Lost attempts",
                or_zero(counted("hub.attempts", outcome="lost", **QUEUE)),
                "none",
                "Attempts whose worker was lost, in the time range.",
                Levels(1, 10),
            ),
        ),
    )


def _by_queue(name: str) -> list[Query]:
    return [Query(largest(series(name, **QUEUE), "queue"), "{{queue}}")]


def _queues() -> Row:
    flow = [
        Query(total(rate("hub.queue.arrivals", **QUEUE)), "arrivals"),
        Query(total(rate("hub.queue.completions", **QUEUE)), "completions"),
    ]
    waits = [Query(quantile(share, "hub.queue.wait.duration", **QUEUE), title) for share, title in SHARES]
    return Row(
        "Queues",
        [
            *medium(
                graph(
                    "Waiting tasks",
                    [Query(total(series("hub.queue.depth", **QUEUE), "queue"), "{{queue}}")],
                    "none",
                    "Tasks that are ready and wait for a worker, by queue.",
                    stacked=True,
                ),
                graph("Oldest waiting task", _by_queue("hub.queue.oldest.age"), "s", "Time since it became ready, by queue."),
                graph(
                    "Time to drain",
                    _by_queue("hub.queue.drain.time"),
                    "s",
                    "Estimated time until the waiting tasks have been run, at the present rate. None while nothing is completed.",
                ),
                graph("Arrivals and completions", flow, PER_SECOND, "Tasks per second that became ready, and that ended."),
                graph("Wait for a worker", waits, "s", "Time from ready to the start of the body."),
                graph(
                    "Wait for a worker, p95",
                    [Query(quantile(0.95, "hub.queue.wait.duration", "queue", **QUEUE), "{{queue}}")],
                    "s",
                    "By queue.",
                ),
            ),
            *large(
                heatmap(
                    "Distribution of the wait",
                    total(bucket_rate("hub.queue.wait.duration", **QUEUE), "le"),
                    "s",
                    "Waits for a worker, by length, over time.",
                ),
                graph(
                    "Delay of timers, p99",
                    [Query(quantile(0.99, "hub.task.schedule.delay", "timer"), "{{timer}}")],
                    "s",
                    "How late start times, retries and timeouts take effect, by kind of timer.",
                ),
            ),
        ],
    )


def _workers() -> Row:
    return Row(
        "Workers",
        medium(
            graph(
                "Workers",
                [Query(total(series("hub.worker.count", **POOL), "pool", "state"), "{{pool}}: {{state}}")],
                "none",
                "By pool and state: active, silent (no heartbeat in time), draining.",
                stacked=True,
            ),
            graph(
                "Slots",
                [Query(total(series("hub.worker.slots", **POOL), "pool", "state"), "{{pool}}: {{state}}")],
                "none",
                "Slots of workers, used and free.",
                stacked=True,
            ),
            graph(
                "Losses",
                [
                    Query(counted("hub.worker.losses", "5m", "pool", **POOL), "workers: {{pool}}"),
                    Query(counted("hub.attempts", "5m", "queue", outcome="lost", **QUEUE), "attempts: {{queue}}"),
                    Query(counted("hub.worker.leases.lost", "5m", "pool", **POOL), "leases: {{pool}}"),
                ],
                "none",
                "Lost workers and attempts in 5 minutes, and leases that running workers lost; no data if there were none.",
            ),
        ),
    )


def _handlers() -> Row:
    body = quantile(0.95, "hub.worker.body.duration", "task")
    return Row(
        "Worker processes",
        medium(
            graph(
                "Commands",
                [Query(total(rate("hub.worker.commands", **POOL), "type"), "{{type}}")],
                PER_SECOND,
                "Received commands per second.",
            ),
            graph("Bodies, p95", [Query(body, "{{task}}")], "s", "Run time of bodies as the worker measured it, by task."),
            graph(
                "Bodies by queue, p95",
                [Query(quantile(0.95, "messaging.process.duration", DESTINATION), f"{{{{{DESTINATION}}}}}")],
                "s",
                "Run time of bodies, by queue; the last bucket ends at 10 s.",
            ),
            graph(
                "Received records",
                [Query(total(rate("messaging.client.consumed.messages"), DESTINATION), f"{{{{{DESTINATION}}}}}")],
                PER_SECOND,
                "Records that engines and workers have received per second, by topic.",
            ),
            graph(
                "Delay of the event loop",
                [Query(largest(series("hub.worker.loop.delay", **POOL), "pool", "process"), "{{pool}} {{process}}")],
                "s",
                "A handler that blocks the event loop delays all others of its worker.",
            ),
            graph(
                "Heartbeats",
                [Query(total(rate("hub.worker.heartbeats", **POOL), "pool"), "{{pool}}")],
                PER_SECOND,
                "Sent heartbeats per second.",
            ),
            graph(
                "Rejected reports",
                [Query(total(rate("hub.attempt.rejections"), "report", "code"), "{{report}}: {{code}}")],
                PER_SECOND,
                "Rejected reports of workers per second, for example of attempts that were superseded.",
            ),
        ),
    )
