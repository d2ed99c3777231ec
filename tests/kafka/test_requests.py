"""The encodings of the client compared with kio's, which is generated from Kafka's schema."""
# mypy: disable-error-code="arg-type"
# (kio has a type of its own for each kind of name and id, which are plain strings and numbers to us)

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
import kio.schema.init_producer_id.v4.request as init_q4
import kio.schema.init_producer_id.v5.request as init_q
import kio.schema.init_producer_id.v5.response as init_r
import kio.schema.metadata.v9.request as metadata_q9
import kio.schema.metadata.v12.request as metadata_q
import kio.schema.metadata.v12.response as metadata_r
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.static.primitive import i8, i16, i32, i64

from hub.kafka import requests
from hub.protocol import MalformedMessage, Message, RequestType, TopicPartition, decode_response, encode_request
from hub.protocol.transactions import IdentityAnswer, read_end_txn, write_end_txn
from tests.protocol.kio_values import ZERO, milliseconds, names, written


def encoded(kind: RequestType, message: Message) -> bytes:
    return encode_request(kind.key, kind.version, message)


def decoded(kind: RequestType, answer: Any) -> Message:
    """An answer that kio wrote."""
    return decode_response(kind.key, kind.version, written(answer))


@given(names, names)
def test_api_versions_request(software: str, version: str) -> None:
    request = api_versions_q.ApiVersionsRequest(client_software_name=software, client_software_version=version)
    assert encoded(requests.API_VERSIONS, requests.api_versions_request(software, version)) == written(request)


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
    versions = requests.read_api_versions(written(answer))
    assert versions == requests.ApiVersions({0: (3, 12), 26: (0, 5)}, {"transaction.version": 2})
    assert versions.speaks(requests.PRODUCE, requests.END_TXN)
    assert not versions.speaks(requests.PRODUCE, requests.METADATA)


def test_an_answer_without_an_error_code_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        requests.read_api_versions(b"\0")


def test_a_broker_that_is_too_old_for_the_question_has_no_features() -> None:
    assert requests.read_api_versions(b"\x00\x23" + b"\x00\x00\x00\x00") == requests.ApiVersions({}, {})


@given(names)
def test_find_coordinator(transactional_id: str) -> None:
    request = find_q.FindCoordinatorRequest(key_type=i8(1), coordinator_keys=(transactional_id,))
    assert encoded(requests.FIND_COORDINATOR, requests.find_coordinator_request(transactional_id)) == written(request)
    coordinator = find_r.Coordinator(
        key=transactional_id,
        node_id=i32(3),
        host="localhost",
        port=i32(9093),
        error_code=ErrorCode.not_coordinator,
        error_message="no",
    )
    answer = find_r.FindCoordinatorResponse(throttle_time=ZERO, coordinators=(coordinator,))
    assert requests.read_find_coordinator(decoded(requests.FIND_COORDINATOR, answer)) == requests.Coordinator(
        16, "localhost", 9093
    )


def test_an_answer_without_a_coordinator_names_none() -> None:
    answer = find_r.FindCoordinatorResponse(throttle_time=ZERO, coordinators=())
    assert requests.read_find_coordinator(decoded(requests.FIND_COORDINATOR, answer)) == requests.Coordinator(-1, "", 0)


@given(names, st.integers(1, 900_000))
def test_init_producer_id(transactional_id: str, timeout_ms: int) -> None:
    request = init_q.InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout=milliseconds(timeout_ms))
    assert encoded(requests.INIT_PRODUCER_ID, requests.init_producer_id_request(transactional_id, timeout_ms)) == written(request)
    answer = init_r.InitProducerIdResponse(
        throttle_time=ZERO,
        error_code=ErrorCode.concurrent_transactions,
        producer_id=i64(1 << 40),
        producer_epoch=i16(12),
    )
    assert requests.read_identity(decoded(requests.INIT_PRODUCER_ID, answer)) == IdentityAnswer(51, 1 << 40, 12)


def test_a_producer_without_transactions_asks_for_an_id_as_kio_does() -> None:
    request = init_q4.InitProducerIdRequest(transactional_id=None, transaction_timeout=milliseconds(0))
    assert encoded(requests.IDEMPOTENT_ID, requests.init_producer_id_request(None, 0)) == written(request)


@given(names, st.integers(0, 1 << 60), st.integers(0, 32_767), st.booleans())
def test_end_txn(transactional_id: str, producer_id: int, epoch: int, committed: bool) -> None:
    request = end_txn_q.EndTxnRequest(
        transactional_id=transactional_id, producer_id=i64(producer_id), producer_epoch=i16(epoch), committed=committed
    )
    assert write_end_txn(transactional_id, producer_id, epoch, committed=committed) == written(request)
    answer = end_txn_r.EndTxnResponse(
        throttle_time=ZERO, error_code=ErrorCode.none, producer_id=i64(producer_id), producer_epoch=i16(epoch)
    )
    assert read_end_txn(written(answer)) == IdentityAnswer(0, producer_id, epoch)


def test_a_cut_answer_to_end_txn_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        read_end_txn(b"\0" * 15)


@given(st.lists(names, max_size=5))
def test_metadata_request(topics: list[str]) -> None:
    request = metadata_q.MetadataRequest(
        topics=tuple(metadata_q.MetadataRequestTopic(topic_id=None, name=name) for name in topics),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    assert encoded(requests.METADATA, requests.metadata_request(topics)) == written(request)
    older = metadata_q9.MetadataRequest(
        topics=tuple(metadata_q9.MetadataRequestTopic(name=name) for name in topics),
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )
    assert encoded(requests.LEADERS, requests.metadata_request(topics)) == written(older)


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
    assert requests.read_metadata(decoded(requests.METADATA, answer)).addresses == {
        TopicPartition("a", 0): ("host1", 9001),
        TopicPartition("a", 1): ("host2", 9002),
        TopicPartition("b", 7): ("host2", 9002),
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
    assert encoded(requests.INCREMENTAL_ALTER_CONFIGS, requests.alter_topics_request(changes)) == written(request)
    answer = alter_r.IncrementalAlterConfigsResponse(
        throttle_time=ZERO,
        responses=tuple(
            alter_r.AlterConfigsResourceResponse(
                error_code=ErrorCode.invalid_config, error_message="no", resource_type=i8(2), resource_name=topic
            )
            for topic in changes
        ),
    )
    assert requests.read_alter_topics(decoded(requests.INCREMENTAL_ALTER_CONFIGS, answer)) == dict.fromkeys(changes, (40, "no"))
