"""The hand-written encoder of the fetch response, compared with the generic codec in every version."""

import pytest

from hub.broker.fetch import PartitionFetch, read_request
from hub.protocol import ApiKey, ErrorCode, decode_response, encode_request
from hub.protocol.fetch import PartitionData, write_response


@pytest.mark.parametrize("version", range(4, 13))
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
