"""The instruments of the embedded broker."""

from functools import partial
from typing import TYPE_CHECKING

from ...metrics import Histogram, Registry, histogram_of
from ...protocol import ApiKey

if TYPE_CHECKING:
    from ...broker import BrokerFigures, BrokerServer


def broker_figures() -> "BrokerFigures":
    """Figures for a broker, with distributions that can be published."""
    from ...broker import BrokerFigures

    return BrokerFigures(partial(histogram_of, "hub.broker.request.duration"))


def observe_broker(registry: Registry, server: "BrokerServer") -> None:
    """Publish the figures of `server`, which are those of `broker_figures`, at each collection."""
    figures = server.figures
    appended, records = registry.counter("hub.broker.produced.size"), registry.counter("hub.broker.produced.records")
    fetched, connections = registry.counter("hub.broker.fetched.size"), registry.gauge("hub.broker.connections")
    log_size = registry.gauge("hub.broker.log.size")
    assert isinstance(figures.sync_seconds, Histogram)
    registry.publish("hub.broker.fsync.duration", figures.sync_seconds)

    def read() -> None:
        amounts = server.amounts()
        appended.follow(amounts.appended_bytes)
        records.follow(amounts.appended_records)
        fetched.follow(figures.fetched_bytes)
        log_size.set(amounts.log_bytes)
        connections.set(amounts.connections)
        if amounts.usable_bytes is not None:
            registry.gauge("hub.broker.disk.free").set(amounts.usable_bytes)
        for key, total in figures.requests.items():
            registry.counter("hub.broker.requests", api=_name_of(key)).follow(total)
        for key, seconds in figures.request_seconds.items():
            assert isinstance(seconds, Histogram)
            registry.publish("hub.broker.request.duration", seconds, api=_name_of(key))

    registry.observe(read)


def _name_of(key: int) -> str:
    """The name of an API in lower case: "produce", "describe_log_dirs"."""
    return ApiKey(key).name.lower()
