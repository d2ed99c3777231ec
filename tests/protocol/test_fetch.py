"""The hand-written codecs of Fetch, compared with the generic codec in every version."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import (
    ApiKey,
    ErrorCode,
    MalformedMessage,
    TopicPartition,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from hub.protocol.fetch import (
    FetchedPartition,
    FetchLimits,
    FetchPosition,
    PartitionData,
    PartitionFetch,
    read_request,
    read_response,
    write_request,
    write_response,
)

VERSIONS = range(4, 13)
LIMITS = FetchLimits(500, 1, 99, True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_broker_reads_and_writes_what_the_codec_does(version: int) -> None:
    partition = {"partition": 2, "fetch_offset": 2**40, "partition_max_bytes": 77}
    message = {
        "max_wait_ms": 500,
        "min_bytes": 1,
        "max_bytes": 99,
        "isolation_level": 1,
        "topics": [{"topic": "t", "partitions": [partition]}],
    }
    request = read_request(encode_request(ApiKey.FETCH, version, message), 0, version)
    assert request.topics == [("t", [PartitionFetch(2, 2**40, 77)])]
    assert (request.max_wait_seconds, request.min_bytes, request.max_bytes, request.committed) == (0.5, 1, 99, True)

    data = [
        PartitionData(2, ErrorCode.NONE, 10, 8, 1, [(1000, 4)], b"records" * 50),
        PartitionData(3, ErrorCode.OFFSET_OUT_OF_RANGE),
    ]
    answer = decode_response(ApiKey.FETCH, version, write_response([("t", data)], version))
    first, second = answer["responses"][0]["partitions"]
    assert (first["high_watermark"], first["last_stable_offset"], first["records"]) == (10, 8, b"records" * 50)
    assert first["aborted_transactions"] == [{"producer_id": 1000, "first_offset": 4}]
    assert (second["error_code"], second["aborted_transactions"]) == (1, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_writes_what_the_codec_does(version: int) -> None:
    positions = {
        TopicPartition("t", 2): FetchPosition(2**40, 7, 77),
        TopicPartition("other", 0): FetchPosition(0, -1, 2**20),
        TopicPartition("t", 300): FetchPosition(5, 8, 78),
    }
    forgotten = [TopicPartition("gone", 1), TopicPartition("t", 1)]
    written = write_request(version, LIMITS, (70, 3), positions, forgotten)
    message = decode_request(ApiKey.FETCH, version, written)
    assert written == encode_request(ApiKey.FETCH, version, message), "complete, and nothing after it"
    limits = (message["max_wait_ms"], message["min_bytes"], message["max_bytes"], bool(message["isolation_level"]))
    assert (message["replica_id"], limits, message["rack_id"]) == (-1, LIMITS, "")
    found = {
        TopicPartition(topic["topic"], entry["partition"]): FetchPosition(
            entry["fetch_offset"], entry["current_leader_epoch"], entry["partition_max_bytes"]
        )
        for topic in message["topics"]
        for entry in topic["partitions"]
    }
    epochs = version >= 9
    assert found == {one: asked if epochs else asked._replace(leader_epoch=-1) for one, asked in positions.items()}
    left = [(topic["topic"], topic["partitions"]) for topic in message["forgotten_topics_data"]]
    session = (message["session_id"], message["session_epoch"])
    assert (session, left) == (((70, 3), [("gone", [1]), ("t", [1])]) if version >= 7 else ((0, -1), []))


def response(version: int) -> dict[str, Any]:
    """A response with all kinds of content."""
    aborted = [{"producer_id": 1000, "first_offset": 4}, {"producer_id": 2**40, "first_offset": 6}]
    full = {
        "partition_index": 2,
        "error_code": 0,
        "high_watermark": 10,
        "last_stable_offset": 8,
        "log_start_offset": 1,
        "aborted_transactions": aborted,
        "preferred_read_replica": 3,
        "records": b"records" * 50,
    }
    gone = {"partition_index": 3, "error_code": 1, "high_watermark": -1, "aborted_transactions": None, "records": None}
    topics = [{"topic": "t", "partitions": [full, gone]}, {"topic": "other", "partitions": [{**gone, "error_code": 4711}]}]
    return {"throttle_time_ms": 5, "error_code": 70, "session_id": 99, "responses": topics}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_reads_what_the_codec_writes(version: int) -> None:
    answer = read_response(encode_response(ApiKey.FETCH, version, response(version)), version)
    assert (answer.code, answer.session_id) == ((70, 99) if version >= 7 else (0, 0))
    start = 1 if version >= 5 else -1
    assert answer.partitions == [
        (TopicPartition("t", 2), FetchedPartition(0, 10, 8, start, [(1000, 4), (2**40, 6)], b"records" * 50)),
        (TopicPartition("t", 3), FetchedPartition(1, -1, -1, -1, [], b"")),
        (TopicPartition("other", 3), FetchedPartition(4711, -1, -1, -1, [], b"")),
    ]


def test_a_broker_skips_tags_of_a_request_and_refuses_a_topic_without_name() -> None:
    limits = struct.pack(">iiiibii", -1, 500, 1, 99, 1, 7, 3)
    position = struct.pack(">iiqiqi", 2, -1, 2**40, -1, -1, 77)
    tag = b"\1\5\3abc"
    body = b"head" + limits + b"\2\2t\2" + position + tag + tag + b"\1\1\0"
    request = read_request(body, 4, 12)
    assert (request.session_id, request.topics) == (7, [("t", [PartitionFetch(2, 2**40, 77)])])
    with pytest.raises(MalformedMessage, match="a tag"):
        read_request(body[:-1] + b"\1\5\4abc", 4, 12)
    with pytest.raises(MalformedMessage, match="no name"):
        read_request(limits + b"\2\0\2" + position + b"\0\0", 0, 12)


def test_a_request_with_a_negative_number_of_topics_is_malformed() -> None:
    body = write_request(11, LIMITS, (0, -1), {})
    counted = body.index(b"\0\0\0\0", 25)
    with pytest.raises(MalformedMessage, match="a length of -2"):
        read_request(body[:counted] + b"\xff\xff\xff\xfe" + body[counted + 4 :], 0, 11)


@given(st.sampled_from(VERSIONS), st.integers(0, 100), st.binary(max_size=8))
def test_a_request_with_invalid_bytes_is_malformed_and_nothing_else(version: int, at: int, rubbish: bytes) -> None:
    forgotten = [TopicPartition("gone", 1), TopicPartition("t", 1)]
    body = write_request(version, LIMITS, (7, 1), {TopicPartition("t", 2): FetchPosition(5, 7, 77)}, forgotten)
    damaged = body[: at % len(body)] + rubbish
    try:
        read_request(damaged, 0, version)
    except MalformedMessage:
        return
    decode_request(ApiKey.FETCH, version, damaged)  # the generic codec accepts it, too


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_is_cut_anywhere_is_malformed(version: int) -> None:
    topics = [{"topic": "t", "partitions": [{"partition": 2, "fetch_offset": 5, "partition_max_bytes": 77}]}]
    forgotten = [{"topic": "gone", "partitions": [1, 2]}]
    body = encode_request(ApiKey.FETCH, version, {"topics": topics, "forgotten_topics_data": forgotten, "rack_id": "r1"})
    for size in range(len(body)):
        with pytest.raises(MalformedMessage):
            read_request(body[:size], 0, version)


@given(st.sampled_from(VERSIONS), st.integers(0, 400), st.binary(max_size=8))
def test_invalid_bytes_are_malformed_and_nothing_else(version: int, at: int, rubbish: bytes) -> None:
    body = encode_response(ApiKey.FETCH, version, response(version))
    at %= len(body)
    try:
        read_response(body[:at] + rubbish, version)
    except MalformedMessage:
        return
    assert rubbish, "a response that was cut off is not complete"
