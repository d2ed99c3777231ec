"""Reading from logs: Fetch (versions 4 to 12) and ListOffsets. The fetch response has a hand-written encoder, because it
carries every record; README.md has the measurements.

Module `definition` describes the notation."""

import struct
from typing import NamedTuple

from .errors import ErrorCode
from .primitives import INT16, INT32, INT64, write_uvarint

DEFINITIONS = """
Fetch 1 4-12 flexible 12+
  request
    replica_id int32 =-1
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 =2147483647
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ =-1
    topics[]
        topic string
        partitions[]
            partition int32
            current_leader_epoch int32 9+ =-1
            fetch_offset int64
            last_fetched_epoch int32 12+ =-1
            log_start_offset int64 5+ =-1
            partition_max_bytes int32
    forgotten_topics_data[] 7+
        topic string
        partitions[] int32
    rack_id string 11+
  response
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    responses[]
        topic string
        partitions[]
            partition_index int32
            error_code int16
            high_watermark int64
            last_stable_offset int64 =-1
            log_start_offset int64 5+ =-1
            aborted_transactions[]?
                producer_id int64
                first_offset int64
            preferred_read_replica int32 11+ =-1
            records bytes?

ListOffsets 2 1-7 flexible 6+
  request
    replica_id int32
    isolation_level int8 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            current_leader_epoch int32 4+ =-1
            timestamp int64
  response
    throttle_time_ms int32 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16
            timestamp int64 =-1
            offset int64 =-1
            leader_epoch int32 4+ =-1
"""
FLEXIBLE_FROM = 12
_PARTITION = struct.Struct(">ihqq")
_ABORTED = struct.Struct(">qq")


class PartitionData(NamedTuple):
    """One partition of a fetch response."""

    partition: int
    error: ErrorCode
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start: int = -1
    aborted: list[tuple[int, int]] | None = None
    records: bytes = b""


FetchResult = list[tuple[str, list[PartitionData]]]


def write_response(result: FetchResult, version: int, error: ErrorCode = ErrorCode.NONE) -> bytes:
    """Encode the body of a fetch response."""
    flexible = version >= FLEXIBLE_FROM
    out: list[bytes] = [b"\0\0\0\0"]
    if version >= 7:
        out.append(INT16.pack(error) + b"\0\0\0\0")
    out.append(write_uvarint(len(result) + 1) if flexible else INT32.pack(len(result)))
    for topic, partitions in result:
        name = topic.encode()
        if flexible:
            out += (write_uvarint(len(name) + 1), name, write_uvarint(len(partitions) + 1))
        else:
            out += (INT16.pack(len(name)), name, INT32.pack(len(partitions)))
        for data in partitions:
            _write_partition(out, data, version, flexible)
        if flexible:
            out.append(b"\0")
    if flexible:
        out.append(b"\0")
    return b"".join(out)


def _write_partition(out: list[bytes], data: PartitionData, version: int, flexible: bool) -> None:
    out.append(_PARTITION.pack(data.partition, data.error, data.high_watermark, data.last_stable_offset))
    if version >= 5:
        out.append(INT64.pack(data.log_start))
    if data.aborted is None:
        out.append(b"\0" if flexible else b"\xff\xff\xff\xff")
    else:
        out.append(write_uvarint(len(data.aborted) + 1) if flexible else INT32.pack(len(data.aborted)))
        out += [_ABORTED.pack(*entry) + (b"\0" if flexible else b"") for entry in data.aborted]
    if version >= 11:
        out.append(b"\xff\xff\xff\xff")
    if flexible:
        out += (write_uvarint(len(data.records) + 1), data.records, b"\0")
    else:
        out += (INT32.pack(len(data.records)), data.records)
