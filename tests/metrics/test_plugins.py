"""The metrics of a subscriber: instruments of its own, and those of the catalogue that are written from events."""

from typing import Any

import pytest

from hub.metrics import Registry
from hub.metrics.merging import of_subscriber
from hub.metrics.plugins import OWN_INSTRUMENTS_MAX, PluginMetrics
from subscribers.api.metrics import Metrics, NoMetrics


def metrics(registry: Registry, subscriber: str = "pager") -> Metrics:
    return PluginMetrics(registry, subscriber)


def test_an_instrument_of_a_subscriber_has_its_id_as_a_label() -> None:
    registry = Registry()
    for subscriber, calls in (("pager", 2), ("mailer", 3)):
        metrics(registry, subscriber).counter("orders.charged", unit="{order}", description="Charged orders.").add(calls)
    metrics(registry).gauge("orders.open", unit="{order}", shop="a").set(7)
    metrics(registry).histogram("orders.value", bounds=(1, 10), shop="a").record(5)
    snapshot = registry.collect()
    assert snapshot.value("orders.charged", subscriber="pager") == 2
    assert snapshot.value("orders.charged", subscriber="mailer") == 3
    assert snapshot.value("orders.open", subscriber="pager", shop="a") == 7
    samples = snapshot.instrument("orders.value")
    assert samples is not None
    assert (samples.bounds, samples.points[0].counts) == ((1.0, 10.0), (0, 1, 0))


def test_an_instrument_that_any_subscriber_may_write_has_its_id_as_a_label() -> None:
    registry = Registry()
    labels = {"channel": "slack", "rule": "", "severity": "error", "status": "firing", "outcome": "sent"}
    for subscriber in ("pager", "mailer"):
        series = metrics(registry, subscriber).counter("hub.alert.notifications", **labels, subscriber="another")
        series.add(len(subscriber))
    snapshot = registry.collect()
    sums = [snapshot.value("hub.alert.notifications", **labels, subscriber=one) for one in ("pager", "mailer", "another")]
    assert sums == [5, 6, 0]
    sent = of_subscriber(snapshot, "pager").instrument("hub.alert.notifications")
    assert sent is None, "a process that sends series of another subscriber is not believed"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hub.orders", "reserved"),
        ("hub_orders", "reserved"),
        ("hub", "reserved"),
        ("Orders", "lower-case words"),
        ("orders..charged", "lower-case words"),
        ("9lives", "lower-case words"),
        ("o" * 300, "lower-case words"),
        ("orders.total", "must not end with total"),
        ("orders_count", "must not end with count"),
    ],
)
def test_a_name_that_is_reserved_or_malformed_is_rejected(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        metrics(Registry()).counter(name)


@pytest.mark.parametrize("label", ["le", "role", "subscriber", "Queue", "a-b", "cluster"])
def test_a_label_that_is_reserved_or_malformed_is_rejected(label: str) -> None:
    labels: dict[str, Any] = {label: "x"}
    with pytest.raises(ValueError, match="cannot be the name of a label"):
        metrics(Registry({"cluster": "a"})).counter("orders.charged", **labels)


@pytest.mark.parametrize("unit", ["seconds", "1", "{a b}", "{" + "x" * 100 + "}"])
def test_a_unit_is_seconds_bytes_or_a_word_in_braces(unit: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        metrics(Registry()).counter("orders.charged", unit=unit)


def test_an_instrument_has_one_kind_and_the_same_labels_at_each_call() -> None:
    registry = Registry()
    mine = metrics(registry)
    mine.counter("orders.charged", shop="a")
    with pytest.raises(ValueError, match="it was declared before as counter"):
        mine.counter("orders.charged", country="b")
    with pytest.raises(ValueError, match="it was declared before as counter"):
        metrics(registry, "mailer").gauge("orders.charged", shop="a")
    with pytest.raises(ValueError, match=r"in Prometheus it has the same name as orders\.charged"):
        mine.gauge("orders_charged", shop="a")
    assert mine.counter("orders.charged", shop="b", description="another text") is mine.counter("orders.charged", shop="b")


def test_the_number_of_instruments_of_a_subscriber_is_limited() -> None:
    mine = metrics(Registry())
    for number in range(OWN_INSTRUMENTS_MAX):
        mine.counter(f"orders.n{number}")
    with pytest.raises(ValueError, match="can have 100 instruments"):
        mine.counter("orders.more")
    mine.counter("orders.n0").add()


def test_instruments_from_events_belong_to_one_subscriber() -> None:
    registry = Registry()
    mine = metrics(registry, "metrics")
    mine.counter("hub.worker.losses", pool="a").add()
    metrics(registry, "metrics").counter("hub.worker.losses", pool="a").add()
    with pytest.raises(ValueError, match="it is written by metrics; if metrics-2 wrote it as well, it would be counted twice"):
        metrics(registry, "metrics-2").counter("hub.worker.losses", pool="a")
    assert registry.collect().value("hub.worker.losses", pool="a") == 2


def test_instruments_of_the_hub_are_not_written_by_subscribers() -> None:
    mine = metrics(Registry())
    for make in (mine.counter, mine.gauge, mine.histogram):
        with pytest.raises(ValueError, match=r"it is written by the hub \(engine\)"):
            make("hub.queue.depth")
    with pytest.raises(ValueError, match="it is a counter, not a gauge"):
        mine.gauge("hub.worker.losses", pool="a")


def test_without_a_registry_nothing_is_recorded() -> None:
    nothing: Metrics = NoMetrics()
    nothing.counter("orders.charged", shop="a").add()
    nothing.gauge("orders.open").set(1)
    nothing.gauge("orders.open").add(1)
    nothing.histogram("orders.value").record(1)
