"""Invalid configuration is rejected at the start, with the path of the invalid value."""

from typing import Any

import pytest

from hub.delivery import DeliveryService, SubscriberConfig, available, check_subscribers, load, parse_configs
from hub.delivery.config import plan
from hub.delivery.selection import MALFORMED, Selection
from hub.errors import ConfigurationError
from hub.kafka import Cluster
from subscribers import Subscriber, SubscriberSettings

from .event_log import progress, ready


def planned(**entry: Any) -> Any:
    """The plan of one entry of `[[subscribers]]`."""
    (config,) = parse_configs([entry])
    return plan(config, load(config.use))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({}, "subscribers: must be a list"),
        ([{}], r"subscribers\[0\]\.use: is missing"),
        ([{"use": "console", "retries": 5}], r"subscribers\[0\]\.retries: unknown key"),
        ([{"use": "console", "id": "a b"}], r"subscribers\[0\]\.id: must consist of at most 200 letters, digits"),
        ([{"use": "console", "start_from": "middle"}], r"subscribers\[0\]\.start_from: "),
        ([{"use": "console"}, {"use": "console"}], r"subscribers\[1\]\.id: 'console' is already the id of subscribers\[0\]"),
    ],
)
def test_a_wrong_entry_is_refused(entries: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_configs(entries)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"settings": {"format": "xml"}}, r"subscribers\[console\]\.settings\.format: "),
        ({"settings": {"colour": True}}, r"subscribers\[console\]\.settings\.colour: unknown key"),
        ({"settings": {"types": ["task.finished"]}}, r"\.settings\.types: 'task\.finished' is not an event type"),
        ({"delivery": {"speed": "5/s"}}, r"subscribers\[console\]\.delivery\.speed: unknown key"),
        ({"delivery": {"retry": {"max": "soon"}}}, r"\.delivery\.retry\.max: 'soon' is not a duration"),
        ({"delivery": {"concurrency": 0}}, r"\.delivery\.concurrency: "),
        ({"filter": {"like": {}}}, r"subscribers\[console\]\.filter: 'like'"),
    ],
)
def test_wrong_settings_delivery_and_filters_are_refused_with_their_path(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        planned(use="console", **entry)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"settings": {"colour": True}}, r"settings\.colour: unknown key \(known keys: .*format.*types.*\)$"),
        ({"delivery": {"speed": "5/s"}}, r"delivery\.speed: unknown key \(known keys: .*concurrency.*\)$"),
        (
            {"retries": 5},
            r"retries: unknown key \(known keys: use, id, .*, filter, types, isolation, memory_bytes_max\)$",
        ),
        ({"use": "pigeon"}, "no plugin is called 'pigeon'"),
    ],
)
def test_a_check_names_the_source_the_table_the_key_and_the_known_keys(entry: dict[str, Any], says: str) -> None:
    check_subscribers([{"use": "console"}, {"use": "tests.delivery.broken_import:Anything"}], "hub.toml")
    with pytest.raises(ConfigurationError, match=rf"^hub\.toml: subscribers.*{says}"):
        check_subscribers([{"use": "console", **entry}], "hub.toml")


def test_overrides_leave_the_rest_of_the_plugins_delivery_as_it_was() -> None:
    delivery = planned(use="tests.delivery.plugins:Recorder", settings={"tag": "x"}, delivery={"retry": {"max": "2m"}}).delivery
    assert delivery.retry.max == 120
    assert delivery.retry.initial == 0.01
    assert delivery.concurrency == 4


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("pigeon", "no plugin is called 'pigeon'; installed: .*console"),
        ("tests.delivery.plugins:Missing", "has no Missing"),
        ("tests.delivery.plugins:not_a_subscriber", "is not a Subscriber class"),
    ],
)
async def test_a_plug_in_that_does_not_exist_ends_the_start(embedded_bootstrap: str, use: str, says: str) -> None:
    service = DeliveryService(Cluster.of(embedded_bootstrap), [SubscriberConfig(use=use, id="x")])
    with pytest.raises(ConfigurationError, match=says):
        await service.start()


def test_a_class_without_handlers_is_refused() -> None:
    class Idle(Subscriber[SubscriberSettings]):
        """Forgot its @on."""

    with pytest.raises(ConfigurationError, match="has no method marked with @on"):
        plan(SubscriberConfig(use="x:Idle"), Idle)


def test_console_is_an_installed_plug_in() -> None:
    assert "console" in available()


def selection(**entry: Any) -> Selection:
    """The selection of one entry."""
    checked = planned(**entry)
    return Selection(checked.plugin, checked.settings, checked.filter)


def test_types_and_filters_select_on_headers_alone() -> None:
    only_ready = selection(use="console", settings={"types": ["task.rea*"]}, filter={"exact": {"namespace": "prod"}})
    assert only_ready.route(tuple(ready("a", 1, namespace="prod")[2])) is not None
    assert only_ready.route(tuple(ready("a", 1, namespace="dev")[2])) is None
    assert only_ready.route(tuple(progress("a", 1, namespace="prod")[2])) is None
    assert only_ready.route(()) is MALFORMED
    assert only_ready.route((("ce_type", b"\xff"),)) is MALFORMED
    for n in range(5000):
        assert only_ready.route((("ce_type", b"invented.%d" % n),)) is None
    assert len(only_ready.routes) < 2000, "what strangers invent is not remembered without bound"
