"""Messages for idempotent producers and transactions, in the notation of `definition`; EndTxn also with a hand-written
encoder and decoder for clients, because every transaction waits for them."""

import struct
from typing import NamedTuple

from .errors import MalformedMessage
from .primitives import write_uvarint

DEFINITIONS = """
InitProducerId 22 0-5 flexible 2+
  request
    transactional_id string?
    transaction_timeout_ms int32
    producer_id int64 3+ =-1
    producer_epoch int16 3+ =-1
  response
    throttle_time_ms int32
    error_code int16
    producer_id int64 =-1
    producer_epoch int16

AddPartitionsToTxn 24 0-3 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    topics[]
        name string
        partitions[] int32
  response
    throttle_time_ms int32
    results_by_topic[]
        name string
        results_by_partition[]
            partition_index int32
            partition_error_code int16

AddOffsetsToTxn 25 0-4 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    group_id string
  response
    throttle_time_ms int32
    error_code int16

TxnOffsetCommit 28 0-5 flexible 3+
  request
    transactional_id string
    group_id string
    producer_id int64
    producer_epoch int16
    generation_id int32 3+ =-1
    member_id string 3+
    group_instance_id string? 3+
    topics[]
        name string
        partitions[]
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 2+ =-1
            committed_metadata string?
  response
    throttle_time_ms int32
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16

EndTxn 26 0-5 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    committed bool
  response
    throttle_time_ms int32
    error_code int16
    producer_id int64 5+ =-1
    producer_epoch int16 5+ =-1
"""

END_TXN_VERSION = 5
"""The version that `write_end_txn` writes and `read_end_txn` reads."""
_IDENTITY = struct.Struct(">qh?")
_ENDED = struct.Struct(">ihqhx")


class IdentityAnswer(NamedTuple):
    """The response to InitProducerId or EndTxn: the identity to use from now on, valid if `code` is NONE."""

    code: int
    producer_id: int
    producer_epoch: int


def write_end_txn(transactional_id: str, producer_id: int, producer_epoch: int, *, committed: bool) -> bytes:
    """Encode a request body."""
    name = transactional_id.encode()
    return b"".join((write_uvarint(len(name) + 1), name, _IDENTITY.pack(producer_id, producer_epoch, committed), b"\0"))


def read_end_txn(body: bytes) -> IdentityAnswer:
    """Decode a response body. Raises `MalformedMessage`."""
    try:
        _, code, producer_id, producer_epoch = _ENDED.unpack_from(body)
    except struct.error as error:
        raise MalformedMessage(f"EndTxn v{END_TXN_VERSION} response: {error}") from error
    return IdentityAnswer(code, producer_id, producer_epoch)
