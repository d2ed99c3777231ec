"""The codecs for one partition: what they write and read is what those of `produce` and `fetch` do."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import ErrorCode, MalformedMessage, TopicPartition, fetch, produce
from hub.protocol.fetch import FetchAnswer, FetchLimits, FetchPosition, PartitionData
from hub.protocol.one_partition import FETCH_VERSION, FetchCodec, ProduceOnePartition
from hub.protocol.produce import PartitionResult

LIMITS = FetchLimits(5_000, 1, 16 << 20, True)
places = st.builds(TopicPartition, st.text(min_size=1, max_size=200), st.integers(0, 2**31 - 1))
offsets = st.integers(0, 2**62)


@given(places, st.binary(min_size=1, max_size=300))
def test_a_produce_request_is_the_same(place: TopicPartition, batch: bytes) -> None:
    assert ProduceOnePartition(place, 24_000).request(batch) == produce.write_request(None, 24_000, {place: batch})


@given(places, places, st.sampled_from([ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER]), offsets)
def test_only_the_response_that_a_batch_is_stored_is_recognised(
    asked: TopicPartition, answered: TopicPartition, error: ErrorCode, offset: int
) -> None:
    def body(place: TopicPartition) -> bytes:
        return produce.write_response([(place.topic, [PartitionResult(place.partition, error, offset)])], produce.FLEXIBLE_FROM)

    one = ProduceOnePartition(asked, 24_000)
    assert one.is_stored(body(asked)) == (error == ErrorCode.NONE)
    assert one.is_stored(body(answered)) == (error == ErrorCode.NONE and answered == asked)
    assert not one.is_stored(body(asked)[:-1])
    two = PartitionResult(asked.partition, ErrorCode.NONE, offset), PartitionResult(asked.partition, error, offset)
    assert not one.is_stored(produce.write_response([(asked.topic, list(two))], produce.FLEXIBLE_FROM))


positions = st.builds(FetchPosition, offsets, st.integers(-1, 7), st.integers(1, 99))


@given(
    st.sampled_from(range(4, 13)),
    st.lists(
        st.tuples(
            st.dictionaries(places, positions, max_size=2), st.lists(places, max_size=1), st.none() | st.integers(0, 2**31 - 1)
        ),
        max_size=4,
    ),
)
def test_fetch_requests_are_the_same(
    version: int, requests: list[tuple[dict[TopicPartition, FetchPosition], list[TopicPartition], int | None]]
) -> None:
    codec = FetchCodec(version, LIMITS)
    for epoch, (wanted, forgotten, wait_ms) in enumerate(requests):
        written = codec.write((70, epoch), wanted, forgotten, max_wait_ms=wait_ms)
        limits = LIMITS if wait_ms is None else LIMITS._replace(max_wait_ms=wait_ms)
        assert written == fetch.write_request(version, limits, (70, epoch), wanted, forgotten)


def reading(version: int, place: TopicPartition) -> FetchCodec:
    """The codec after a request for this partition."""
    codec = FetchCodec(version, LIMITS)
    codec.write((0, 0), {place: FetchPosition(0, -1, 1 << 20)})
    return codec


partitions = st.builds(
    PartitionData,
    st.integers(0, 1),
    st.sampled_from([ErrorCode.NONE, ErrorCode.OFFSET_OUT_OF_RANGE]),
    offsets,
    offsets,
    offsets,
    st.none() | st.lists(st.tuples(offsets, offsets), max_size=2),
    st.binary(max_size=300),
)


@given(st.sampled_from(range(4, 13)), st.dictionaries(st.sampled_from("ab"), st.lists(partitions, max_size=2), max_size=2))
def test_fetch_responses_are_read_the_same(version: int, topics: dict[str, list[PartitionData]]) -> None:
    body = fetch.write_response(list(topics.items()), version, ErrorCode.NONE)
    assert reading(version, TopicPartition("a", 1)).read(body) == fetch.read_response(body, version)


def read_or_malformed(read: Callable[[bytes], FetchAnswer], body: bytes) -> FetchAnswer | None:
    try:
        return read(body)
    except MalformedMessage:
        return None


def assert_read_the_same(body: bytes) -> None:
    read = reading(FETCH_VERSION, TopicPartition("a", 1)).read
    assert read_or_malformed(read, body) == read_or_malformed(lambda one: fetch.read_response(one, FETCH_VERSION), body)


BODY = fetch.write_response([("a", [PartitionData(1, ErrorCode.NONE, 10, 8, 1, None, b"records" * 50)])], FETCH_VERSION)


@given(st.integers(0, 400), st.binary(max_size=8))
def test_invalid_bytes_are_malformed_or_read_the_same(at: int, rubbish: bytes) -> None:
    at %= len(BODY)
    assert_read_the_same(BODY[:at] + rubbish + BODY[at + len(rubbish) :])


def test_a_response_that_is_cut_off_is_malformed_or_read_the_same_also_within_the_size_of_the_records() -> None:
    for at in range(len(BODY)):
        for end in (b"", b"\x80", b"\xff" * 4):
            assert_read_the_same(BODY[:at] + end)
