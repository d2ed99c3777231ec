"""The hand-written codec of Produce, compared with the generic codec in every version and with kio."""
# mypy: disable-error-code="arg-type"
# (kio has a type of its own for each kind of name and id, which are plain strings and numbers to us)

from typing import Any

import kio.schema.produce.v12.request as produce_q
import kio.schema.produce.v12.response as produce_r
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.static.primitive import Records, i16, i32, i64

from hub.protocol import ApiKey, ErrorCode, MalformedMessage, TopicPartition, decode_response, encode_request
from hub.protocol.produce import (
    PartitionResult,
    Produced,
    read_request,
    read_response,
    write_request,
    write_response,
)
from tests.broker.client import batch

from .kio_values import ZERO, milliseconds, names, written


@pytest.mark.parametrize("version", range(3, 13))
def test_a_broker_reads_and_writes_what_the_codec_does(version: int) -> None:
    topics = [("t-é", [(0, batch([b"a"])), (7, None)]), ("u", [])]
    message = {
        "transactional_id": "tx",
        "acks": -1,
        "timeout_ms": 5,
        "topic_data": [
            {"name": name, "partition_data": [{"index": index, "records": raw} for index, raw in partitions]}
            for name, partitions in topics
        ],
    }
    raw = encode_request(ApiKey.PRODUCE, version, message)
    request = read_request(b"head" + raw, 4, version)
    assert (request.transactional_id, request.acks, request.topics) == ("tx", -1, topics)

    result = PartitionResult(3, ErrorCode.INVALID_PRODUCER_EPOCH, 2**40, 9)
    answer = decode_response(ApiKey.PRODUCE, version, write_response([("t", [result])], version))
    (entry,) = answer["responses"][0]["partition_responses"]
    assert (entry["index"], entry["error_code"], entry["base_offset"]) == (3, 47, 2**40)
    assert entry["log_start_offset"] == (9 if version >= 5 else -1)


@pytest.mark.parametrize("version", range(3, 13))
def test_cut_requests_are_refused(version: int) -> None:
    message = {"transactional_id": "tx", "topic_data": [{"name": "t", "partition_data": [{"index": 1, "records": b"records"}]}]}
    raw = encode_request(ApiKey.PRODUCE, version, message)
    for size in range(len(raw)):
        with pytest.raises(MalformedMessage):
            read_request(raw[:size], 0, version)


@given(st.none() | names, st.dictionaries(st.tuples(names, st.integers(0, 100)), st.binary(min_size=1, max_size=300), max_size=6))
def test_a_client_writes_what_kio_does(transactional_id: str | None, contents: dict[tuple[str, int], bytes]) -> None:
    topics: dict[str, list[Any]] = {}
    for (topic, partition), raw in contents.items():
        data = produce_q.PartitionProduceData(index=i32(partition), records=Records(raw))
        topics.setdefault(topic, []).append(data)
    request = produce_q.ProduceRequest(
        transactional_id=transactional_id,
        acks=i16(-1),
        timeout=milliseconds(10_000),
        topic_data=tuple(produce_q.TopicProduceData(name=name, partition_data=tuple(parts)) for name, parts in topics.items()),
    )
    batches = {TopicPartition(*where): raw for where, raw in contents.items()}
    assert write_request(transactional_id, 10_000, batches) == written(request)


def test_a_client_reads_what_kio_wrote() -> None:
    def partition(index: int, error: KioErrorCode, offset: int, **more: Any) -> Any:
        return produce_r.PartitionProduceResponse(
            index=i32(index),
            error_code=error,
            base_offset=i64(offset),
            record_errors=more.pop("record_errors", ()),
            **more,
        )

    bad = produce_r.BatchIndexAndErrorMessage(batch_index=i32(3), batch_index_error_message="no key")
    answer = produce_r.ProduceResponse(
        responses=(
            produce_r.TopicProduceResponse(
                name="a",
                partition_responses=(
                    partition(0, KioErrorCode.none, 55),
                    partition(1, KioErrorCode.concurrent_transactions, -1),
                ),
            ),
            produce_r.TopicProduceResponse(
                name="b",
                partition_responses=(
                    partition(
                        0,
                        KioErrorCode.not_leader_or_follower,
                        -1,
                        current_leader=produce_r.LeaderIdAndEpoch(leader_id=i32(2), leader_epoch=i32(8)),
                    ),
                    partition(1, KioErrorCode.invalid_record, -1, record_errors=(bad,)),
                    partition(2, KioErrorCode.invalid_record, -1, error_message="all wrong"),
                ),
            ),
        ),
        throttle_time=ZERO,
    )
    assert read_response(written(answer)) == {
        TopicPartition("a", 0): Produced(0, 55, ""),
        TopicPartition("a", 1): Produced(51, -1, ""),
        TopicPartition("b", 0): Produced(6, -1, ""),
        TopicPartition("b", 1): Produced(87, -1, "no key"),
        TopicPartition("b", 2): Produced(87, -1, "all wrong"),
    }
    whole = written(answer)
    for size in range(len(whole) - 6):  # what follows is not looked at: a tag section, the throttle time, another one
        with pytest.raises(MalformedMessage):
            read_response(whole[:size])


@given(
    st.lists(st.tuples(names, st.integers(0, 100), st.sampled_from([KioErrorCode.none, KioErrorCode.concurrent_transactions])))
)
def test_a_client_reads_what_kio_wrote_for_one_partition_of_each_topic(results: list[tuple[str, int, KioErrorCode]]) -> None:
    answer = produce_r.ProduceResponse(
        responses=tuple(
            produce_r.TopicProduceResponse(
                name=name,
                partition_responses=(
                    produce_r.PartitionProduceResponse(
                        index=i32(index), error_code=code, base_offset=i64(number), record_errors=()
                    ),
                ),
            )
            for number, (name, index, code) in enumerate(results)
        ),
        throttle_time=ZERO,
    )
    assert read_response(written(answer)) == {
        TopicPartition(name, index): Produced(code.value, number, "") for number, (name, index, code) in enumerate(results)
    }
