"""The dashboard "streams": partitions of the engine, the embedded broker, the event log, processes."""

from .dashboard import Dashboard
from .layout import Row, medium, small
from .panels import PER_SECOND, Levels, Query, graph, stat
from .promql import count_rate, counted, largest, mean, mean_since_start, or_zero, quantile, rate, series, sum_rate, total
from .variables import data_source

COMMIT, BATCH, RECORDS = "hub.engine.commit.duration", "hub.engine.batch.duration", "hub.engine.batch.records"


def streams() -> Dashboard:
    """Without variables but the data source: a hub has few partitions."""
    return Dashboard(
        "hub-streams",
        "streams.json",
        "taskhub / Streams",
        "Whether the engine keeps up with its input, the event log, the embedded broker, and the processes.",
        [data_source("prometheus", "Metrics")],
        [_numbers(), _engine(), _events(), _broker(), _processes()],
    )


def _numbers() -> Row:
    return Row(
        "Now",
        small(
            stat(
                "Lag", total(series("hub.engine.lag")), "none", "Records of hub.intake that are not processed.", Levels(1e3, 1e5)
            ),
            stat(
                "Watermark",
                largest(series("hub.engine.watermark.age")),
                "s",
                "Largest age of the newest processed record of a partition.",
                Levels(10, 60),
            ),
            stat("Commit, p99", quantile(0.99, COMMIT), "s", "Time to commit a transaction.", Levels(0.25, 1)),
            stat("Live tasks", total(series("hub.engine.live_tasks")), "none", "Tasks in the memory of the engine."),
            stat(
                "Dead letters",
                or_zero(counted("hub.engine.dead_letters")),
                "none",
                "Records and timers that the engine could not process, in the time range.",
                Levels(1, 1),
            ),
            stat(
                "Free disk space",
                f"min({series('hub.broker.disk.free')})",
                "bytes",
                "Free space that the embedded broker can use.",
                Levels(10e9, 2e9, rising=False),
            ),
        ),
    )


def _by_partition(expression: str) -> list[Query]:
    return [Query(expression, "{{partition}}")]


def _two(name: str, *by: str, legend: str = "") -> list[Query]:
    return [Query(quantile(share, name, *by), f"{title} {legend}".strip()) for share, title in ((0.5, "p50"), (0.99, "p99"))]


def _engine() -> Row:
    return Row(
        "Engine",
        medium(
            graph(
                "Lag",
                _by_partition(total(series("hub.engine.lag"), "partition")),
                "none",
                "Records of hub.intake that are not processed, by partition.",
            ),
            graph(
                "Age of the watermark",
                _by_partition(largest(series("hub.engine.watermark.age"), "partition")),
                "s",
                "Age of the newest record that was processed, by partition.",
            ),
            graph(
                "Processed records",
                _by_partition(total(sum_rate(RECORDS), "partition")),
                PER_SECOND,
                "Records of hub.intake per second, by partition.",
            ),
            graph("Commits", _two(COMMIT), "s", "Time to commit a transaction."),
            graph("Batches", _two(BATCH), "s", "Time to process a batch, without its commit."),
            graph(
                "Size of batches",
                [Query(mean(RECORDS), "mean"), Query(quantile(0.99, RECORDS), "p99")],
                "none",
                "Records per batch: larger batches mean more load.",
            ),
            graph(
                "Live tasks",
                _by_partition(total(series("hub.engine.live_tasks"), "partition")),
                "none",
                "Tasks that have not ended, by partition.",
                stacked=True,
            ),
            graph(
                "Restores",
                _by_partition(mean_since_start("hub.engine.restore.duration", "partition")),
                "s",
                "Mean time to restore a partition's state after a start or a move, since the start of the process.",
            ),
            graph(
                "Dead letters",
                [Query(counted("hub.engine.dead_letters", "5m", "kind"), "{{kind}}")],
                "none",
                "Dead-lettered records and timers in 5 minutes; no data if there were none.",
            ),
        ),
    )


def _events() -> Row:
    return Row(
        "Event log",
        medium(
            graph(
                "Events by type",
                [Query(total(rate("hub.events.published"), "type"), "{{type}}")],
                PER_SECOND,
                "Lifecycle events per second.",
                stacked=True,
            ),
            graph(
                "Lag of subscribers",
                [Query(largest(series("hub.subscriber.lag.time"), "subscriber"), "{{subscriber}}")],
                "s",
                "Age of the oldest event that a subscriber has not acknowledged.",
            ),
            graph(
                "Series beyond the limit",
                [Query(total(rate("hub.metrics.series.overflow"), "instrument"), "{{instrument}}")],
                PER_SECOND,
                "Requests for series of an instrument that has too many; they are counted under the value other. No data: none.",
            ),
        ),
    )


def _broker() -> Row:
    return Row(
        "Embedded broker",
        medium(
            graph("Requests", [Query(total(rate("hub.broker.requests"), "api"), "{{api}}")], "reqps", "Per second, by API."),
            graph(
                "Requests, p99",
                [Query(quantile(0.99, "hub.broker.request.duration", "api", api="!fetch"), "{{api}}")],
                "s",
                "Time to respond, without Fetch, which waits for records.",
            ),
            graph("Syncs of the journal", _two("hub.broker.fsync.duration"), "s", "Time to sync the journal to disk."),
            graph(
                "Bytes",
                [
                    Query(total(rate("hub.broker.produced.size")), "produced"),
                    Query(total(rate("hub.broker.fetched.size")), "fetched"),
                ],
                "Bps",
                "Appended record batches, and those that were returned to consumers.",
            ),
            graph(
                "Records and syncs",
                [
                    Query(total(rate("hub.broker.produced.records")), "records"),
                    Query(total(count_rate("hub.broker.fsync.duration")), "syncs"),
                ],
                PER_SECOND,
                "Appended records per second, and syncs of the journal.",
            ),
            graph("Connections", [Query(total(series("hub.broker.connections")), "open")], "none", "Open connections."),
            graph(
                "Disk",
                [
                    Query(total(series("hub.broker.log.size")), "logs"),
                    Query(f"min({series('hub.broker.disk.free')})", "free"),
                ],
                "bytes",
                "Size of all logs, and the space that is left.",
            ),
        ),
    )


def _processes() -> Row:
    by = ("role", "process", "instance")  # a process with a page of its own has no label process
    legend = "{{role}} {{process}} {{instance}}"
    return Row(
        "Processes",
        medium(
            graph("CPU", [Query(total(rate("hub.process.cpu.time"), *by), legend)], "percentunit", "CPU time per second."),
            graph("Memory", [Query(total(series("hub.process.memory"), *by), legend)], "bytes", "Resident memory."),
            graph("Uptime", [Query(largest(series("hub.process.uptime"), *by), legend)], "s", "A restart sets it to 0."),
            graph("Running processes", [Query(total(series("hub.process.up"), "role"), "{{role}}")], "none", "By role."),
        ),
    )
