"""The dashboard "subscribers and alerts": deliveries, lag, dead letters, states; alerts of the hub and of Prometheus."""

from .dashboard import Dashboard
from .layout import Row, large, medium, small
from .panels import PER_SECOND, Levels, Query, TableColumn, graph, heatmap, stat, table, timeline
from .promql import RANGE, bucket_rate, counted, increase, largest, or_zero, quantile, rate, series, total
from .variables import data_source, values

CHOSEN = {"subscriber": "~$subscriber"}
STATE = "hub.subscriber.state"
#: The states of a subscriber, the one that matters most first: several processes may report different ones.
STATES = (
    *(("failed", "red"), ("blocked", "dark-orange"), ("unavailable", "orange"), ("reconnecting", "yellow")),
    *(("paused", "purple"), ("starting", "light-blue"), ("waiting", "blue"), ("running", "green"), ("stopped", "#8e8e8e")),
)
SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def subscribers_alerts() -> Dashboard:
    """For the variable subscriber."""
    return Dashboard(
        "hub-subscribers",
        "subscribers-alerts.json",
        "taskhub / Subscribers and alerts",
        "Deliveries to subscribers, their lag and dead letters, their states; alerts of the hub and of the rules for Prometheus.",
        [data_source("prometheus", "Metrics"), values("subscriber", "Subscriber", STATE)],
        [_numbers(), _deliveries(), _states(), _alerts()],
    )


def _numbers() -> Row:
    delivered = increase("hub.subscriber.deliveries", **CHOSEN)
    ok = increase("hub.subscriber.deliveries", outcome="ok", **CHOSEN)
    return Row(
        "Now",
        small(
            stat("Delivered", total(ok), "short", "Events that were processed in the time range."),
            stat(
                "Processed at once",
                f"{total(ok)} / ({total(delivered)} > 0)",
                "percentunit",
                "Share of the deliveries that were not repeated, postponed, dropped or dead-lettered.",
                Levels(0.99, 0.9, rising=False),
            ),
            stat(
                "Largest lag",
                largest(series("hub.subscriber.lag.time", **CHOSEN)),
                "s",
                "Age of the oldest event that is not acknowledged.",
                Levels(60, 300),
            ),
            stat(
                "Dead letters",
                or_zero(counted("hub.subscriber.dead_letters", **CHOSEN)),
                "none",
                "Dead-lettered events in the time range: `hub subscribers dlq list`.",
                Levels(1, 10),
            ),
            stat(
                "Running subscribers",
                or_zero(f"count({largest(series(STATE, state='running', **CHOSEN), 'subscriber')} == 1)"),
                "none",
                "Subscribers in the state running.",
            ),
            stat(
                "Other subscribers",
                or_zero(f"count({largest(series(STATE, state='!~running|stopped', **CHOSEN), 'subscriber')} == 1)"),
                "none",
                "Subscribers that are paused, failed, unavailable, blocked, reconnecting, waiting or starting.",
                Levels(1, 1),
            ),
        ),
    )


def _deliveries() -> Row:
    durations = [Query(quantile(share, "hub.subscriber.delivery.duration", **CHOSEN), title) for share, title in SHARES]
    return Row(
        "Deliveries",
        medium(
            graph(
                "Deliveries",
                [Query(total(rate("hub.subscriber.deliveries", **CHOSEN), "outcome"), "{{outcome}}")],
                PER_SECOND,
                "Per second, by outcome.",
                stacked=True,
            ),
            graph(
                "By subscriber",
                [Query(total(rate("hub.subscriber.deliveries", **CHOSEN), "subscriber"), "{{subscriber}}")],
                PER_SECOND,
                "Deliveries per second.",
            ),
            graph("Duration of a call", durations, "s", "Time that a handler took for one call."),
            graph(
                "Lag",
                [Query(total(series("hub.subscriber.lag", **CHOSEN), "subscriber"), "{{subscriber}}")],
                "none",
                "Records of hub.events that are not acknowledged.",
            ),
            graph(
                "Age of the lag",
                [Query(largest(series("hub.subscriber.lag.time", **CHOSEN), "subscriber"), "{{subscriber}}")],
                "s",
                "Age of the oldest event that is not acknowledged.",
            ),
            graph(
                "In flight",
                [Query(total(series("hub.subscriber.inflight", **CHOSEN), "subscriber"), "{{subscriber}}")],
                "none",
                "Events that are being handled or wait for it.",
            ),
            graph(
                "Without success",
                [
                    Query(
                        total(rate("hub.subscriber.deliveries", outcome="!ok", **CHOSEN), "subscriber", "outcome"),
                        "{{subscriber}}: {{outcome}}",
                    )
                ],
                PER_SECOND,
                "Deliveries per second that were repeated, postponed, dropped, skipped or dead-lettered.",
            ),
            graph(
                "Duration of a call, p95",
                [Query(quantile(0.95, "hub.subscriber.delivery.duration", "subscriber", **CHOSEN), "{{subscriber}}")],
                "s",
                "Time that a handler took for one call, by subscriber.",
            ),
            heatmap(
                "Distribution of the duration",
                total(bucket_rate("hub.subscriber.delivery.duration", **CHOSEN), "le"),
                "s",
                "Calls of handlers, by duration, over time.",
            ),
        ),
    )


def _present(state: str) -> str:
    return f"({largest(series(STATE, state=state, **CHOSEN), 'subscriber')} == 1)"


def _states() -> Row:
    numbered = [f"{_present(state)} * {number}" for number, (state, _) in enumerate(STATES)]
    letters, restarts = (
        counted(name, RANGE, "subscriber", **CHOSEN) for name in ("hub.subscriber.dead_letters", "hub.subscriber.restarts")
    )
    return Row(
        "States",
        large(
            timeline("State", Query(" or ".join(numbered), "{{subscriber}}"), STATES, "The state of each subscriber over time."),
            table(
                "Dead letters and restarts",
                [
                    TableColumn("Dead letters", letters, "short", Levels(1, 10)),
                    TableColumn("Restarts", restarts, "short", Levels(1, 5)),
                ],
                "In the time range, by subscriber, if there were any. `hub subscribers list` shows the latest error.",
            ),
        ),
    )


def _alerts() -> Row:
    transitions = "hub.alert.transitions"
    prometheus = 'sum by (alertname, severity) (ALERTS{alertname=~"Hub.*", alertstate="firing", severity!="none"})'
    return Row(
        "Alerts",
        [
            *medium(
                graph(
                    "Alerts of the hub",
                    [Query(counted(transitions, "5m", "rule", "state"), "{{rule}}: {{state}}")],
                    "none",
                    "Alerts that rules of the hub fired, resolved or silenced, in 5 minutes; no data if there were none.",
                ),
                graph(
                    "Active alerts of the hub",
                    [Query(largest(series("hub.alert.active"), "rule", "severity"), "{{rule}} ({{severity}})")],
                    "none",
                    "Alerts of rules of the hub that fire, by rule.",
                ),
                graph(
                    "Notifications",
                    [
                        Query(
                            counted("hub.alert.notifications", "5m", "subscriber", "status", "outcome", **CHOSEN),
                            "{{subscriber}}, {{status}}: {{outcome}}",
                        )
                    ],
                    "none",
                    "Notifications of alert targets by outcome, in 5 minutes; no data if there were none.",
                ),
                graph(
                    "Received alerts",
                    [Query(counted("hub.receiver.alerts", "5m", "outcome"), "{{outcome}}")],
                    "none",
                    "Alerts that were received over HTTP and became tasks, by outcome, in 5 minutes; no data if there were none.",
                ),
                table(
                    "Rules that fired",
                    [TableColumn("Fired", counted(transitions, RANGE, "rule", "severity", state="fired"))],
                    "Rules of the hub that fired in the time range.",
                ),
                table(
                    "Firing in Prometheus",
                    [TableColumn("Alerts", prometheus)],
                    "Alerts of the rules for Prometheus that fire now, without the watchdog.",
                ),
            )
        ],
    )
