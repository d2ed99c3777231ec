"""Errors of the broker: the protocol's codes, and the exceptions of this package.

A code is a value that goes into an answer; an exception is for the door inside the process (`BrokerError`) or for a
broker that cannot start or continue.
"""

from enum import IntEnum


class ErrorCode(IntEnum):
    """The protocol's error codes that this broker uses (https://kafka.apache.org/protocol#protocol_error_codes)."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    MESSAGE_TOO_LARGE = 10
    OFFSET_METADATA_TOO_LARGE = 12
    INVALID_TOPIC_EXCEPTION = 17
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    OPERATION_NOT_ATTEMPTED = 55
    STORAGE_ERROR = 56
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FETCH_SESSION_ID_NOT_FOUND = 70
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    PRODUCER_FENCED = 90
    UNKNOWN_TOPIC_ID = 100


class BrokerError(Exception):
    """A request through the door inside the process was refused; `code` says why in the protocol's terms."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code


class DataDirectoryInUse(Exception):
    """Another process holds the lock of the data directory."""


class AddressInUse(Exception):
    """The broker cannot listen on the given host and port."""


class StorageDamaged(Exception):
    """Stored bytes that were known to be on disk are not what was written. The broker refuses to start rather than
    serve a different log."""


class OtherFormat(Exception):
    """A data directory holds data of a format that this version does not read. `found` is None where it has no number."""

    def __init__(self, directory: str, found: str | None, wanted: int) -> None:
        super().__init__(f"{directory}: format {found}, not {wanted}")
        self.found, self.wanted = found, wanted


class MalformedBatch(ValueError):
    """The records of a batch cannot be read, though its checksum fits: its producer wrote them so."""


class MalformedRequest(ValueError):
    """Bytes that are not a request of this protocol. The connection that sent them is closed."""
