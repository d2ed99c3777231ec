"""Errors of the Kafka client layer. Each message names the address or object concerned and, if possible, the remedy."""

from aiokafka.errors import KafkaError

from ..errors import ConfigurationError, HubError, Unreachable
from ..protocol import ErrorCode, name_of


def is_client_error(error: BaseException) -> bool:
    """Whether aiokafka raised this error, and it was not yet translated to an error of this module."""
    return isinstance(error, KafkaError)


class BrokerUnreachable(Unreachable):
    """No broker responded at any of the addresses in the message."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        detail = "" if "Unable to bootstrap" in reason else f" ({reason})"  # the message says so already
        super().__init__(
            f"No Kafka broker responds at {bootstrap}{detail}."
            " Start one with `hub up`, or set another address (--bootstrap, HUB_BOOTSTRAP)."
        )
        self.bootstrap = bootstrap
        self.reason = reason
        self.cause = f"no broker at {bootstrap}"


class PartitionUnavailable(Unreachable):
    """The cluster is reachable, but the leader of a partition is missing or does not serve produce or fetch requests.

    `leader` is its address, None if the partition has no leader; `cause` is equal for all partitions of a leader."""

    def __init__(self, topic: str, partition: int, leader: str | None, waited_for: str) -> None:
        who = f"The leader of {topic}-{partition}, {leader}," if leader else f"{topic}-{partition} has no leader now:"
        super().__init__(f"{who} {waited_for}.")
        self.topic = topic
        self.partition = partition
        self.leader = leader
        self.cause = f"leader {leader}"


class ConnectionLost(Unreachable):
    """A connection was closed, or a response timed out: the broker may or may not have executed the request."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class CorruptBatch(HubError):
    """A record batch has a wrong checksum or structure."""


class OffsetOutOfRange(HubError):
    """The next offset to read is not in the partition. Readers never skip ahead silently."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"Offset {offset} of {topic}-{partition} is out of range: records were deleted, or the topic was recreated."
            " Refusing to skip ahead, because records would be lost."
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class RecordTooLarge(HubError):
    """A record exceeds the limit of the hub's topics. Nothing was sent; the session can still be used."""

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"A record for {topic} has about {size} bytes; the limit is {limit}."
            " Store large values elsewhere and pass a reference."
        )
        self.topic = topic
        self.size = size
        self.limit = limit


class RecordRejected(HubError):
    """The broker rejected a record, and would reject it again. Other records of its batch are stored."""

    def __init__(self, topic: str, partition: int, leader: str, reason: str) -> None:
        super().__init__(f"The leader of {topic}-{partition}, {leader}, rejected a record ({reason}).")
        self.topic = topic
        self.partition = partition


class SessionFailed(HubError):
    """The session failed, and the outcome of its last transaction may be unknown: it is committed entirely or not at all.

    The session cannot be used any longer. Discard everything since the last acknowledged commit, open a new session (which
    commits or aborts the transaction) and restore from the log. `cause`: see `Unreachable`."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class SessionFenced(HubError):
    """This session no longer owns its transactional id: another session was opened with it, or the broker aborted a
    transaction that exceeded the transaction timeout. The session cannot be used any longer. Its last transaction has no
    effect unless it was acknowledged."""


class TopicMismatch(ConfigurationError):
    """An existing topic has a setting that is incompatible with the hub."""

    def __init__(self, topic: str, setting: str, found: str, wanted: str, remedy: str) -> None:
        super().__init__(f"Topic {topic} has {setting} = {found}, but the hub requires {wanted}. {remedy}")
        self.topic = topic
        self.setting = setting
        self.found = found
        self.wanted = wanted
        self.remedy = remedy


class TopicMissing(ConfigurationError):
    """A required topic does not exist."""

    def __init__(self, topic: str, bootstrap: str) -> None:
        super().__init__(f"Topic {topic} does not exist at {bootstrap}. Create the hub's topics with `hub init` or `hub up`.")
        self.topic = topic


class TopicRefused(ConfigurationError):
    """The broker rejected a request about a topic."""

    def __init__(self, topic: str, verb: str, code: int, message: str | None) -> None:
        super().__init__(f"The broker refused to {verb} topic {topic}: {message or f'error {code}'}.")
        self.topic = topic
        self.code = code


class GroupRefused(HubError):
    """The broker rejected a request about a consumer group."""

    def __init__(self, group: str, verb: str, code: int) -> None:
        reason = "it has members" if code == ErrorCode.NON_EMPTY_GROUP else name_of(code)
        super().__init__(f"The broker refused to {verb} group {group}: {reason}.")
        self.group = group
        self.code = code
