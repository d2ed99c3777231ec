"""What is replaced in Faust: the parts exist, and other releases are refused."""

import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from hub.analytics.feed import FaustFeed
from hub.errors import ConfigurationError
from hub.kafka import Cluster


@pytest.fixture(scope="module")
def repair() -> Any:
    """The module, which imports Faust."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hub.analytics import faust_repair
    return faust_repair


def test_another_release_of_faust_is_refused(repair: Any) -> None:
    repair.check_release("0.15.9")
    with pytest.raises(ConfigurationError, match=r"need faust-streaming 0\.15\.x, and 0\.16\.0 is installed"):
        repair.check_release("0.16.0")


def test_faust_uses_the_repaired_parts(repair: Any) -> None:
    import faust
    from faust.tables.recovery import Recovery
    from faust.transport.drivers import aiokafka as driver

    repair.check_release(faust.__version__)
    assert driver.Transport.Consumer is repair.CommittedConsumer
    assert Recovery.on_recovery_completed is repair.on_recovery_completed
    assert faust.App._create_directories is repair.create_no_directories
    assert "self._create_directories()" in inspect.getsource(faust.App.on_first_start)
    original = inspect.signature(driver.AIOKafkaConsumerThread._fetch_records).parameters
    assert list(original)[:2] == ["self", "consumer"]
    assert "_create_worker_consumer" in vars(driver.AIOKafkaConsumerThread)


def place(partition: int, position: int, end: int | None, told_ms: int | None) -> Any:
    return SimpleNamespace(partition=partition, position=position, end=end, told_ms=told_ms, has_valid_position=True)


def client(*places: Any) -> Any:
    """A client with these positions, as `all_fetched_at` reads them."""
    by = {one.partition: one for one in places}
    assignment = SimpleNamespace(state_value=by.get)
    return SimpleNamespace(
        assignment=lambda: by,
        last_stable_offset=lambda partition: by[partition].end,
        last_poll_timestamp=lambda partition: by[partition].told_ms,
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
    )


@pytest.mark.parametrize(
    ("places", "at_ms"),
    [
        ([place(0, 7, 7, 100), place(1, 3, 3, 90)], 90),
        ([place(0, 7, 7, 100), place(1, 2, 3, 90)], None),
        ([place(0, 7, None, 100)], None),
        ([place(0, 7, 7, None)], None),
        ([], None),
    ],
)
def test_all_was_fetched_before_the_oldest_answer_if_no_partition_has_more(repair: Any, places: Any, at_ms: int | None) -> None:
    assert repair.all_fetched_at(client(*places)) == at_ms


def test_all_was_taken_when_the_last_fetched_records_were(repair: Any) -> None:
    feed = FaustFeed(Cluster.of("127.0.0.1:1"), 2, lambda *_: None)
    fetched = [repair.FetchedUntil(100, {0: 4}), repair.FetchedUntil(200, {0: 4, 1: 8})]
    feed._app = SimpleNamespace(consumer=SimpleNamespace(partitions=2, fetched=fetched))
    assert feed.complete_until_ms({0: 4}) is None
    assert feed.complete_until_ms({0: 5, 1: 8}) == 100
    assert feed.complete_until_ms({0: 5, 1: 9}) == 200
    feed._app.consumer.partitions = 1
    assert feed.complete_until_ms({0: 5, 1: 9}) is None
