"""Our encodings against kio's, which is generated from Kafka's own schema."""
# mypy: disable-error-code="arg-type"
# (kio has a type of its own for each kind of name and id, which are plain strings and numbers to us)

import datetime as dt
import io
from typing import Any
from uuid import UUID

import kio.schema.api_versions.v3.request as api_versions_q
import kio.schema.api_versions.v3.response as api_versions_r
import kio.schema.end_txn.v5.request as end_txn_q
import kio.schema.end_txn.v5.response as end_txn_r
import kio.schema.find_coordinator.v4.request as find_q
import kio.schema.find_coordinator.v4.response as find_r
import kio.schema.incremental_alter_configs.v1.request as alter_q
import kio.schema.incremental_alter_configs.v1.response as alter_r
import kio.schema.init_producer_id.v5.request as init_q
import kio.schema.init_producer_id.v5.response as init_r
import kio.schema.metadata.v12.request as metadata_q
import kio.schema.metadata.v12.response as metadata_r
import kio.schema.produce.v12.request as produce_q
import kio.schema.produce.v12.response as produce_r
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.schema.request_header.v2.header import RequestHeader
from kio.serial import entity_writer
from kio.static.primitive import Records, i8, i16, i32, i32Timedelta, i64

from hub.kafka import TopicPartition, wire

names = st.text(min_size=1, max_size=40)
ZERO = i32Timedelta.parse(dt.timedelta(0))


def written(entity: Any) -> bytes:
    """The bytes of an entity, by kio."""
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def milliseconds(number: int) -> i32Timedelta:
    return i32Timedelta.parse(dt.timedelta(milliseconds=number))


def test_a_frame_is_length_header_and_body() -> None:
    header = RequestHeader(request_api_key=i16(26), request_api_version=i16(5), correlation_id=i32(77), client_id="hub-engine-1")
    frame = wire.frame(wire.END_TXN, 77, b"hub-engine-1", b"body")
    assert frame == (len(frame) - 4).to_bytes(4, "big") + written(header) + b"body"


@given(names, names)
def test_api_versions_request(software: str, version: str) -> None:
    request = api_versions_q.ApiVersionsRequest(client_software_name=software, client_software_version=version)
    assert wire.api_versions_request(software, version) == written(request)


def test_api_versions_answer() -> None:
    answer = api_versions_r.ApiVersionsResponse(
        error_code=ErrorCode.none,
        api_keys=(
            api_versions_r.ApiVersion(api_key=i16(0), min_version=i16(3), max_version=i16(12)),
            api_versions_r.ApiVersion(api_key=i16(26), min_version=i16(0), max_version=i16(5)),
        ),
        throttle_time=ZERO,
        supported_features=(
            api_versions_r.SupportedFeatureKey(name="transaction.version", min_version=i16(0), max_version=i16(3)),
        ),
        finalized_features_epoch=i64(9),
        finalized_features=(
            api_versions_r.FinalizedFeatureKey(name="transaction.version", max_version_level=i16(2), min_version_level=i16(1)),
        ),
    )
    versions = wire.read_api_versions(written(answer))
    assert versions == wire.ApiVersions({0: (3, 12), 26: (0, 5)}, {"transaction.version": 2})
    assert versions.speaks(wire.PRODUCE, wire.END_TXN)
    assert not versions.speaks(wire.PRODUCE, wire.METADATA)


def test_a_broker_that_is_too_old_for_the_question_has_no_features() -> None:
    assert wire.read_api_versions(b"\x00\x23" + b"\x00\x00\x00\x00") == wire.ApiVersions({}, {})


@given(names)
def test_find_coordinator(transactional_id: str) -> None:
    request = find_q.FindCoordinatorRequest(key_type=i8(1), coordinator_keys=(transactional_id,))
    assert wire.find_coordinator_request(transactional_id) == written(request)
    coordinator = find_r.Coordinator(
        key=transactional_id,
        node_id=i32(3),
        host="localhost",
        port=i32(9093),
        error_code=ErrorCode.not_coordinator,
        error_message="no",
    )
    answer = find_r.FindCoordinatorResponse(throttle_time=ZERO, coordinators=(coordinator,))
    assert wire.read_find_coordinator(written(answer)) == wire.Coordinator(16, "localhost", 9093)


@given(names, st.integers(1, 900_000))
def test_init_producer_id(transactional_id: str, timeout_ms: int) -> None:
    request = init_q.InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout=milliseconds(timeout_ms))
    assert wire.init_producer_id_request(transactional_id, timeout_ms) == written(request)
    answer = init_r.InitProducerIdResponse(
        throttle_time=ZERO,
        error_code=ErrorCode.concurrent_transactions,
        producer_id=i64(1 << 40),
        producer_epoch=i16(12),
    )
    assert wire.read_identity(written(answer)) == wire.Identity(51, 1 << 40, 12)


@given(names, st.integers(0, 1 << 60), st.integers(0, 32_767), st.booleans())
def test_end_txn(transactional_id: str, producer_id: int, epoch: int, committed: bool) -> None:
    request = end_txn_q.EndTxnRequest(
        transactional_id=transactional_id, producer_id=i64(producer_id), producer_epoch=i16(epoch), committed=committed
    )
    assert wire.end_txn_request(transactional_id, producer_id, epoch, committed) == written(request)
    answer = end_txn_r.EndTxnResponse(
        throttle_time=ZERO, error_code=ErrorCode.none, producer_id=i64(producer_id), producer_epoch=i16(epoch)
    )
    assert wire.read_identity(written(answer)) == wire.Identity(0, producer_id, epoch)


@given(st.lists(names, max_size=5))
def test_metadata_request(topics: list[str]) -> None:
    request = metadata_q.MetadataRequest(
        topics=tuple(metadata_q.MetadataRequestTopic(topic_id=None, name=name) for name in topics),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    assert wire.metadata_request(topics) == written(request)


def test_metadata_answer() -> None:
    def partition(index: int, leader: int, error: ErrorCode = ErrorCode.none) -> Any:
        return metadata_r.MetadataResponsePartition(
            error_code=error,
            partition_index=i32(index),
            leader_id=i32(leader),
            leader_epoch=i32(4),
            replica_nodes=(i32(1), i32(2), i32(3)),
            isr_nodes=(i32(1),),
            offline_replicas=(),
        )

    def topic(name: str | None, *partitions: Any, error: ErrorCode = ErrorCode.none) -> Any:
        return metadata_r.MetadataResponseTopic(
            error_code=error, name=name, topic_id=UUID(int=5), is_internal=False, partitions=partitions
        )

    answer = metadata_r.MetadataResponse(
        throttle_time=ZERO,
        brokers=tuple(
            metadata_r.MetadataResponseBroker(node_id=i32(n), host=f"host{n}", port=i32(9000 + n), rack=None) for n in (1, 2)
        ),
        cluster_id="cluster",
        controller_id=i32(1),
        topics=(
            topic("a", partition(0, 1), partition(1, 2), partition(2, -1, ErrorCode.leader_not_available)),
            topic("gone", error=ErrorCode.unknown_topic_or_partition),
            topic("b", partition(7, 2)),
        ),
    )
    assert wire.read_metadata(written(answer)).addresses == {
        TopicPartition("a", 0): ("host1", 9001),
        TopicPartition("a", 1): ("host2", 9002),
        TopicPartition("b", 7): ("host2", 9002),
    }


@given(names, st.dictionaries(st.tuples(names, st.integers(0, 100)), st.binary(min_size=1, max_size=300), max_size=6))
def test_produce_request(transactional_id: str, contents: dict[tuple[str, int], bytes]) -> None:
    topics: dict[str, list[Any]] = {}
    for (topic, partition), batch in contents.items():
        data = produce_q.PartitionProduceData(index=i32(partition), records=Records(batch))
        topics.setdefault(topic, []).append(data)
    request = produce_q.ProduceRequest(
        transactional_id=transactional_id,
        acks=i16(-1),
        timeout=milliseconds(10_000),
        topic_data=tuple(produce_q.TopicProduceData(name=name, partition_data=tuple(parts)) for name, parts in topics.items()),
    )
    batches = {TopicPartition(*where): batch for where, batch in contents.items()}
    assert wire.produce_request(transactional_id, 10_000, batches) == written(request)


def test_produce_answer() -> None:
    def partition(index: int, error: ErrorCode, offset: int, **more: Any) -> Any:
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
                    partition(0, ErrorCode.none, 55),
                    partition(1, ErrorCode.concurrent_transactions, -1),
                ),
            ),
            produce_r.TopicProduceResponse(
                name="b",
                partition_responses=(
                    partition(
                        0,
                        ErrorCode.not_leader_or_follower,
                        -1,
                        current_leader=produce_r.LeaderIdAndEpoch(leader_id=i32(2), leader_epoch=i32(8)),
                    ),
                    partition(1, ErrorCode.invalid_record, -1, record_errors=(bad,)),
                    partition(2, ErrorCode.invalid_record, -1, error_message="all wrong"),
                ),
            ),
        ),
        throttle_time=ZERO,
    )
    assert wire.read_produce(written(answer)) == {
        TopicPartition("a", 0): wire.Produced(0, 55, ""),
        TopicPartition("a", 1): wire.Produced(51, -1, ""),
        TopicPartition("b", 0): wire.Produced(6, -1, ""),
        TopicPartition("b", 1): wire.Produced(87, -1, "no key"),
        TopicPartition("b", 2): wire.Produced(87, -1, "all wrong"),
    }


@given(st.dictionaries(names, st.dictionaries(names, names, max_size=3), max_size=3))
def test_alter_topics(changes: dict[str, dict[str, str]]) -> None:
    request = alter_q.IncrementalAlterConfigsRequest(
        resources=tuple(
            alter_q.AlterConfigsResource(
                resource_type=i8(2),
                resource_name=topic,
                configs=tuple(alter_q.AlterableConfig(name=k, config_operation=i8(0), value=v) for k, v in settings.items()),
            )
            for topic, settings in changes.items()
        ),
        validate_only=False,
    )
    assert wire.alter_topics_request(changes) == written(request)
    answer = alter_r.IncrementalAlterConfigsResponse(
        throttle_time=ZERO,
        responses=tuple(
            alter_r.AlterConfigsResourceResponse(
                error_code=ErrorCode.invalid_config, error_message="no", resource_type=i8(2), resource_name=topic
            )
            for topic in changes
        ),
    )
    assert wire.read_alter_topics(written(answer)) == dict.fromkeys(changes, (40, "no"))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, (1 << 31) - 1])
def test_uvarint(number: int) -> None:
    assert wire.Reader(wire.uvarint(number)).uvarint() == number
