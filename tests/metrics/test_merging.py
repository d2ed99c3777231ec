"""Snapshots of several processes become one; a subscriber's process can send only what a subscriber may write."""

from typing import Any

import pytest
from msgspec import structs

from hub.metrics import MetricsSnapshot, PluginMetrics, Registry, decode_snapshot, encode_snapshot, merged
from hub.metrics.merging import of_subscriber, totals
from hub.metrics.prometheus import text

TRACE = "0af7651916cd43dd8448eb211c80319c"


def of_plugin(**counted: float) -> MetricsSnapshot:
    """What a subscriber `mine` counted by kind."""
    registry = Registry()
    metrics = PluginMetrics(registry, "mine")
    for kind, amount in counted.items():
        metrics.counter("orders.charged", unit="{order}", kind=kind).add(amount)
        metrics.histogram("orders.delay", unit="s", bounds=(1, 10)).record(amount, TRACE)
        metrics.gauge("orders.open").set(amount)
    return registry.collect()


def test_series_of_others_are_added_to_ones_own() -> None:
    own = Registry({"role": "delivery"})
    own.counter("hub.worker.losses", pool="a").add(1)
    whole = merged(own.collect(), [of_plugin(card=2, cash=20), of_plugin(card=3)])
    assert whole.constant == {"role": "delivery"}
    assert whole.value("hub.worker.losses", pool="a") == 1
    assert whole.value("orders.charged", subscriber="mine", kind="card") == 5
    assert whole.value("orders.charged", subscriber="mine", kind="cash") == 20
    assert whole.value("orders.open", subscriber="mine") == 3, "of a gauge the last one"
    (point,) = next(one for one in whole.instruments if one.name == "orders.delay").points
    assert (point.counts, point.value, point.lowest, point.highest) == ((0, 2, 1), 25, 2, 20)
    assert [one.bucket for one in point.exemplars] == [1, 2]


def test_an_instrument_that_is_declared_differently_is_left_out() -> None:
    other = Registry()
    PluginMetrics(other, "yours").gauge("orders.charged").set(7)
    whole = merged(of_plugin(card=2), [other.collect()])
    assert [one.kind for one in whole.instruments if one.name == "orders.charged"] == ["counter"]
    assert whole.value("orders.charged", subscriber="mine", kind="card") == 2


def test_of_a_process_that_has_ended_the_totals_remain() -> None:
    assert {one.name for one in totals(of_plugin(card=2)).instruments} == {"orders.charged", "orders.delay"}


def test_a_subscriber_sends_its_own_series_and_those_that_it_writes_for_the_hub() -> None:
    registry = Registry()
    PluginMetrics(registry, "mine").counter("hub.task.deduplications").add(3)
    registry.histogram("hub.subscriber.delivery.duration", subscriber="mine").record(0.5)
    sent = merged(of_plugin(card=2), [registry.collect()])
    assert of_subscriber(decode_snapshot(encode_snapshot(sent)), "mine").instruments == sent.instruments


FORGED: dict[str, dict[str, Any]] = {
    "an instrument of the hub": {"name": "hub.process.up"},
    "another name of the hub": {"name": "hub.mine"},
    "no name": {"name": 'x"} 1\nhub_process_up 0\n'},
    "an ending that Prometheus adds": {"name": "orders.total"},
    "no unit": {"unit": 'x"'},
    "no name of a label": {"labels": ("subscriber", "a.b")},
    "the label of another": {"labels": ("kind", "subscriber")},
    "bounds of a counter": {"bounds": (1.0,)},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_what_no_subscriber_can_write_is_left_out(change: dict[str, Any]) -> None:
    snapshot = of_plugin(card=2)
    (counter,) = [one for one in snapshot.instruments if one.name == "orders.charged"]
    forged = structs.replace(snapshot, instruments=(structs.replace(counter, **change),))
    assert of_subscriber(forged, "mine").instruments == ()


POINTS: dict[str, dict[str, Any]] = {
    "the id of another": {"labels": ("yours", "card")},
    "too few labels": {"labels": ("mine",)},
    "not a number": {"value": float("nan")},
    "buckets of a counter": {"counts": (1, 2)},
}


@pytest.mark.parametrize("change", POINTS.values(), ids=POINTS.keys())
def test_a_series_of_another_form_is_left_out_with_its_instrument(change: dict[str, Any]) -> None:
    snapshot = of_plugin(card=2)
    (counter,) = [one for one in snapshot.instruments if one.name == "orders.charged"]
    forged = structs.replace(counter, points=(structs.replace(counter.points[0], **change),))
    assert of_subscriber(structs.replace(snapshot, instruments=(forged,)), "mine").instruments == ()


def test_labels_of_a_subscriber_cannot_break_the_page() -> None:
    snapshot = of_subscriber(of_plugin(**{'x"} 1\nhub_process_up 0': 2}), "mine")
    assert "\nhub_process_up" not in text([snapshot])
