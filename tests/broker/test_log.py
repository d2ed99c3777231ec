"""The log of one partition in memory, and the number of partitions of all topics."""

import pytest

from hub.broker import Broker, BrokerSettings, MemoryStorage
from hub.broker.batches import placed, read_header
from hub.broker.errors import BrokerError
from hub.broker.log import PartitionLog
from hub.broker.pending import Pending
from hub.protocol import ErrorCode

from .client import batch, values_of

NOTHING: dict[str, str] = {}


def log_of(*batches: list[bytes]) -> PartitionLog:
    """A log with these batches (values), all on disk."""
    broker = Broker(MemoryStorage())
    log = broker.state.topics.create("t", 1, NOTHING).logs[0]
    for values in batches:
        raw = batch(values)
        broker.state.append(log, raw, read_header(raw))
    Pending.written(broker.state.pending.cut())
    return log


def values(log: PartitionLog, offset: int = 0) -> list[bytes]:
    return values_of(log.read(offset, 1 << 20, committed=True).data)


def test_batches_in_memory_are_replaced_while_they_are_the_first_ones() -> None:
    log = log_of([b"a", b"b"], [b"c"], [b"d"])
    old = log.in_memory(3)
    assert [values_of(raw) for raw in old] == [[b"a", b"b"], [b"c"]]
    new = [placed(batch([b"c"]), 2)]
    size = log.memory_bytes
    assert log.replace_in_memory(old, new) is True
    assert values(log) == [b"c", b"d"]
    assert log.memory_bytes == size + len(new[0]) - sum(map(len, old))
    assert log.replace_in_memory(old, new) is False
    assert values(log) == [b"c", b"d"]


@pytest.mark.parametrize(
    ("before", "left", "first"),
    [(0, [b"a", b"b", b"c", b"d"], 0), (1, [b"a", b"b", b"c", b"d"], 0), (2, [b"c", b"d"], 2), (3, [b"d"], 3), (4, [], None)],
)
def test_a_log_loses_whole_batches_before_an_offset(before: int, left: list[bytes], first: int | None) -> None:
    log = log_of([b"a", b"b"], [b"c"], [b"d"])
    log.delete_before(before)
    assert log.start == before
    assert values(log, before) == left
    assert [read_header(raw).base_offset for raw in log.in_memory(9)][:1] == ([] if first is None else [first])
    log.delete_before(0)
    assert log.start == before, "the start never goes back"


def test_all_topics_together_have_at_most_so_many_partitions() -> None:
    topics = Broker(MemoryStorage(), settings=BrokerSettings(partitions_max=4)).state.topics
    topics.create("a", 2, NOTHING)
    for count in (3, 0, -1):
        said = f"{count} partitions requested: allowed are 1 to 4 over all topics, 2 exist"
        with pytest.raises(BrokerError, match=said) as refused:
            topics.create("b", count, NOTHING)
        assert refused.value.code is ErrorCode.INVALID_PARTITIONS
    b = topics.create("b", 1, NOTHING)
    with pytest.raises(BrokerError, match="already has 1 partitions, got 1"):
        topics.add_partitions(b, 1)
    with pytest.raises(BrokerError, match="2 partitions requested: .* 3 exist"):
        topics.add_partitions(b, 3)
    topics.add_partitions(b, 2)
    assert len(b.logs) == 2
    with pytest.raises(BrokerError, match="4 exist"):
        topics.create("c", 1, NOTHING)
