"""What can go wrong between us and a Kafka cluster. Messages are sentences with the address or the name concerned and,
where there is one, the remedy."""

from aiokafka.errors import KafkaError

from ..errors import ConfigurationError, HubError, Unreachable

#: What the client library raises where nobody has translated it yet.
ClientError = KafkaError


class BrokerUnreachable(Unreachable):
    """No broker answered at any of the addresses that the message gives."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        told = "" if "Unable to bootstrap" in reason else f" ({reason})"  # that is said already, and without a Python tuple
        super().__init__(
            f"No Kafka broker answers at {bootstrap}{told}."
            " Start one with `hub up`, or name another address (--bootstrap, HUB_BOOTSTRAP)."
        )
        self.bootstrap = bootstrap
        self.reason = reason
        self.cause = f"no broker at {bootstrap}"


class PartitionUnavailable(Unreachable):
    """The cluster is there, and the leader of one partition does not take or give records now, or there is none.

    `leader` is its address, None where the partition has none; `cause` is the same for all partitions of a leader."""

    def __init__(self, topic: str, partition: int, leader: str | None, waited_for: str) -> None:
        who = f"The leader of {topic}-{partition}, {leader}," if leader else f"{topic}-{partition} has no leader now:"
        super().__init__(f"{who} {waited_for}.")
        self.topic = topic
        self.partition = partition
        self.leader = leader
        self.cause = f"leader {leader}"


class ConnectionLost(Unreachable):
    """A connection to a broker ended, or an answer did not come in time: what was asked may have happened or not."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class CorruptBatch(HubError):
    """Bytes that should be record batches are not: wrong checksum or structure."""


class OffsetOutOfRange(HubError):
    """The record to read next is no longer (or not yet) in the partition. Never answered by a silent jump."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic}-{partition} has no offset {offset}: records before it were deleted, or the topic was created again."
            " Reading on elsewhere would lose records, so it is not done."
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class RecordTooLarge(HubError):
    """A record is larger than the hub's topics accept. Nothing was sent; the session that refused it continues."""

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"A record for {topic} takes about {size} bytes; topics accept {limit}."
            " Keep large values elsewhere and refer to them."
        )
        self.topic = topic
        self.size = size
        self.limit = limit


class SessionFailed(HubError):
    """The outcome of a transaction is unknown. It is committed as a whole or not at all.

    The session is over. Drop what was decided since the last known commit, open a new session (which ends the
    transaction one way or the other) and restore from the log. `cause`: see `Unreachable`."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause or message


class SessionFenced(HubError):
    """This session no longer owns its transactional id: another one was opened with it, or the broker ended our
    transaction because it took longer than the transaction timeout. The session is over, and its last transaction has
    no effect unless it was acknowledged."""


class TopicMismatch(ConfigurationError):
    """An existing topic has a setting that the hub cannot work with."""

    def __init__(self, topic: str, setting: str, found: str, wanted: str, remedy: str) -> None:
        super().__init__(f"Topic {topic} has {setting} = {found}, and the hub needs {wanted}. {remedy}")
        self.topic = topic
        self.setting = setting
        self.found = found
        self.wanted = wanted
        self.remedy = remedy


class TopicMissing(ConfigurationError):
    """A topic that the hub needs does not exist."""

    def __init__(self, topic: str, bootstrap: str) -> None:
        super().__init__(f"Topic {topic} does not exist at {bootstrap}. Create the hub's topics with `hub init` or `hub up`.")
        self.topic = topic


class TopicRefused(ConfigurationError):
    """The broker would not create or describe a topic."""

    def __init__(self, topic: str, verb: str, code: int, message: str | None) -> None:
        super().__init__(f"The broker did not {verb} topic {topic}: {message or f'error {code}'}.")
        self.topic = topic
        self.code = code
