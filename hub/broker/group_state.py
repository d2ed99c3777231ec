"""The state of a consumer group: members, phase and committed offsets. Module `groups` has the rules."""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from ..protocol import ErrorCode
from .timing import Deferred, Timer


class CommittedOffset(NamedTuple):
    """The committed offset of a group in one partition."""

    offset: int
    leader_epoch: int
    metadata: str | None
    committed_ms: int


class Phase(Enum):
    """State of a group, with the names of Kafka's protocol."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(slots=True)
class Member:
    """One member of a group."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_seconds: float
    rebalance_seconds: float
    protocols: list[tuple[str, bytes]]
    assignment: bytes = b""
    joining: Deferred | None = None
    syncing: Deferred | None = None
    session: Timer | None = None

    def metadata(self, protocol: str) -> bytes:
        """The member's metadata for a protocol; empty if it does not support it."""
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")


@dataclass(slots=True)
class Group:
    """One consumer group."""

    group_id: str
    phase: Phase = Phase.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    """Member id of each static member."""
    handed_out: dict[str, Timer] = field(default_factory=dict)
    rebalance: Timer | None = None
    starting: bool = False
    """Whether the group was empty when this rebalance began, so that its initial delay applies."""
    offsets: dict[tuple[str, int], CommittedOffset] = field(default_factory=dict)
    empty_since_ms: int = -1
    """When the last member left, in ms; -1 while the group has members and if it never had any."""

    def identify(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """NONE if this is a member; a static member (KIP-345) must use its latest member id."""
        if instance_id is not None:
            known = self.instances.get(instance_id)
            if known is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if known != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def check(self, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        """NONE for a member of the current generation."""
        error = self.identify(member_id, instance_id)
        if error is ErrorCode.NONE and generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return error


class JoinRequest(NamedTuple):
    """The fields of a JoinGroup request."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    must_know_id: bool
    """Whether the client supports MEMBER_ID_REQUIRED."""
