"""The group coordinator (classic protocol): members and generations of consumer groups.

A group is Empty, PreparingRebalance (members are joining), CompletingRebalance (the leader computes the assignment), or
Stable. Membership is in memory only: after a restart members are unknown and rejoin. Committed offsets are durable
(`group_offsets`).

Implements KIP-394 (a new member first gets its id, then joins with it), KIP-345 (static members keep their assignment over a
restart) and KIP-62 (rebalance timeout).
"""

import uuid

from ..protocol import ErrorCode, Message
from .group_offsets import GroupOffsets
from .group_state import Group, JoinRequest, Member, Phase
from .state import BrokerState
from .timing import Deferred

PENDING_MEMBER_SECONDS = 10.0
"""How long a newly assigned member id may stay unused."""


def join_error(code: ErrorCode, member_id: str = "") -> Message:
    """Response to a rejected join."""
    return {"error_code": code, "generation_id": -1, "protocol_name": "", "leader": "", "member_id": member_id}


class GroupCoordinator:
    """Handles joins, syncs, heartbeats and leaves; all state is in `groups`."""

    def __init__(self, state: BrokerState) -> None:
        self._state = state
        self.groups: dict[str, Group] = {}
        self.offsets = GroupOffsets(state, self.groups)

    # --- joining

    def join(self, request: JoinRequest) -> Deferred | Message:
        """A member joins or rejoins. The response is sent when the next generation starts."""
        settings = self._state.settings
        if not request.group_id:
            return join_error(ErrorCode.INVALID_GROUP_ID)
        if not settings.session_timeout_ms_min <= request.session_timeout_ms <= settings.session_timeout_ms_max:
            return join_error(ErrorCode.INVALID_SESSION_TIMEOUT)
        group = self.groups.get(request.group_id)
        if group is None:
            if request.member_id:
                return join_error(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id)
            group = self.groups[request.group_id] = Group(request.group_id)
        if not self._compatible(group, request):
            return join_error(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, request.member_id)
        if not request.member_id:
            return self._join_new(group, request)
        return self._join_known(group, request)

    def _compatible(self, group: Group, request: JoinRequest) -> bool:
        if not request.protocol_type or not request.protocols:
            return False
        others = [member for member in group.members.values() if member.member_id != request.member_id]
        if request.instance_id is not None:
            others = [member for member in others if member.instance_id != request.instance_id]
        if not others:
            return True
        offered = {name for name, _ in request.protocols}
        common = offered.intersection(*({name for name, _ in member.protocols} for member in others))
        return group.protocol_type == request.protocol_type and bool(common)

    def _join_new(self, group: Group, request: JoinRequest) -> Deferred | Message:
        member_id = f"{request.instance_id or request.client_id or 'member'}-{uuid.uuid4()}"
        known = group.instances.get(request.instance_id) if request.instance_id is not None else None
        if known is not None:
            return self._replace_static(group, known, member_id, request)
        if len(group.members) + len(group.handed_out) >= self._state.settings.group_members_max:
            return join_error(ErrorCode.GROUP_MAX_SIZE_REACHED)
        if request.must_know_id and request.instance_id is None:
            forget = self._state.timers.after(PENDING_MEMBER_SECONDS, lambda: self._forget_pending(group, member_id))
            group.handed_out[member_id] = forget
            return join_error(ErrorCode.MEMBER_ID_REQUIRED, member_id)
        return self._add(group, member_id, request)

    def _forget_pending(self, group: Group, member_id: str) -> None:
        group.handed_out.pop(member_id, None)
        if group.phase is Phase.PREPARING:
            self._complete_join_when_ready(group)

    def _join_known(self, group: Group, request: JoinRequest) -> Deferred | Message:
        if request.member_id in group.handed_out:
            group.handed_out.pop(request.member_id).cancel()
            return self._add(group, request.member_id, request)
        error = group.identify(request.member_id, request.instance_id)
        if error is not ErrorCode.NONE:
            return join_error(error, request.member_id)
        member = group.members[request.member_id]
        unchanged = member.protocols == request.protocols
        self._update(member, request)
        if group.phase is Phase.COMPLETING and unchanged:
            return self._joined(group, member)
        if group.phase is Phase.STABLE and unchanged and member.member_id != group.leader:
            self._touch(group, member)
            return self._joined(group, member)
        return self._wait_for_generation(group, member)

    def _add(self, group: Group, member_id: str, request: JoinRequest) -> Deferred:
        member = Member(member_id, request.instance_id, request.client_id, request.client_host, 0, 0, protocols=request.protocols)
        self._update(member, request)
        group.members[member_id] = member
        self.offsets.note_empty(group, -1)
        group.protocol_type = request.protocol_type
        if request.instance_id is not None:
            group.instances[request.instance_id] = member_id
        return self._wait_for_generation(group, member)

    @staticmethod
    def _update(member: Member, request: JoinRequest) -> None:
        member.protocols = request.protocols
        member.session_seconds = request.session_timeout_ms / 1000
        timeout_ms = request.rebalance_timeout_ms if request.rebalance_timeout_ms > 0 else request.session_timeout_ms
        member.rebalance_seconds = timeout_ms / 1000

    def _replace_static(self, group: Group, old_id: str, new_id: str, request: JoinRequest) -> Deferred | Message:
        """A static member returned with a new id: it keeps its assignment. No rebalance if nothing else changed."""
        member = group.members.pop(old_id)
        for waiting in (member.joining, member.syncing):
            if waiting is not None:
                waiting.resolve(join_error(ErrorCode.FENCED_INSTANCE_ID, old_id))
        member.joining = member.syncing = None
        unchanged = member.protocols == request.protocols
        member.member_id, member.client_id, member.client_host = new_id, request.client_id, request.client_host
        self._update(member, request)
        group.members[new_id] = member
        group.instances[request.instance_id or ""] = new_id
        was_leader = group.leader == old_id
        if was_leader:
            group.leader = new_id
        if group.phase is Phase.STABLE and unchanged:
            self._touch(group, member)
            answer = self._joined(group, member)
            # the assignment is unchanged: the member fetches it as a follower
            return {**answer, "leader": old_id if was_leader else group.leader, "members": []}
        return self._wait_for_generation(group, member)

    def _wait_for_generation(self, group: Group, member: Member) -> Deferred:
        if member.joining is not None:
            member.joining.resolve(join_error(ErrorCode.UNKNOWN_MEMBER_ID, member.member_id))
        member.joining = Deferred()
        answer = member.joining
        if member.session is not None:
            member.session.cancel()
            member.session = None
        if group.phase is not Phase.PREPARING:
            self._prepare(group)
        self._complete_join_when_ready(group)
        return answer

    # --- rebalance

    def _prepare(self, group: Group) -> None:
        group.starting = group.phase is Phase.EMPTY
        group.phase = Phase.PREPARING
        for member in group.members.values():
            if member.syncing is not None:
                member.syncing.resolve({"error_code": ErrorCode.REBALANCE_IN_PROGRESS})
                member.syncing = None
        if group.starting:
            seconds = self._state.settings.group_initial_delay_ms / 1000
        else:
            seconds = max((member.rebalance_seconds for member in group.members.values()), default=0.0)
        group.rebalance = self._state.timers.after(seconds, lambda: self._complete_join(group))

    def _complete_join_when_ready(self, group: Group) -> None:
        """Complete the join once all known members have joined. A group that was empty waits for its initial delay instead."""
        if group.phase is not Phase.PREPARING or group.handed_out:
            return
        if group.starting or not group.members:
            return
        if all(member.joining is not None for member in group.members.values()):
            self._complete_join(group)

    def _complete_join(self, group: Group) -> None:
        if group.phase is not Phase.PREPARING:
            return
        if group.rebalance is not None:
            group.rebalance.cancel()
            group.rebalance = None
        for member in [m for m in group.members.values() if m.joining is None]:
            if member.instance_id is None:
                self._drop(group, member)
        if not any(member.joining is not None for member in group.members.values()):
            self._empty(group)
            return
        group.generation += 1
        group.protocol = self._choose_protocol(group)
        if group.leader not in group.members or group.members[group.leader].joining is None:
            group.leader = next(member.member_id for member in group.members.values() if member.joining is not None)
        group.phase = Phase.COMPLETING
        for member in list(group.members.values()):
            member.assignment = b""
            if member.joining is not None:
                answer, member.joining = member.joining, None
                self._touch(group, member)
                answer.resolve(self._joined(group, member))
            else:
                self._touch(group, member)

    def _empty(self, group: Group) -> None:
        group.generation += 1
        group.phase, group.leader, group.protocol = Phase.EMPTY, "", ""
        for member in list(group.members.values()):
            self._drop(group, member)
        self.offsets.note_empty(group, self._state.clock.now_ms())

    @staticmethod
    def _choose_protocol(group: Group) -> str:
        """The protocol with most votes among those that all members support."""
        common = set.intersection(*({name for name, _ in member.protocols} for member in group.members.values()))
        votes: dict[str, int] = {}
        for member in group.members.values():
            choice = next(name for name, _ in member.protocols if name in common)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def _joined(self, group: Group, member: Member) -> Message:
        leads = member.member_id == group.leader
        return {
            "error_code": ErrorCode.NONE,
            "generation_id": group.generation,
            "protocol_type": group.protocol_type,
            "protocol_name": group.protocol,
            "leader": group.leader,
            "member_id": member.member_id,
            "members": [
                {"member_id": m.member_id, "group_instance_id": m.instance_id, "metadata": m.metadata(group.protocol)}
                for m in group.members.values()
            ]
            if leads
            else [],
        }

    def sync(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None, assignments: dict[str, bytes]
    ) -> Deferred | Message:
        """The leader sends the assignment; the other members wait for it."""
        group, error = self._check(group_id, generation, member_id, instance_id)
        if group is None:
            return {"error_code": error}
        member = group.members[member_id]
        if group.phase is Phase.PREPARING:
            return {"error_code": ErrorCode.REBALANCE_IN_PROGRESS}
        self._touch(group, member)
        if group.phase is Phase.STABLE:
            return self._synced(group, member)
        if member_id != group.leader:
            member.syncing = Deferred()
            return member.syncing
        for other in group.members.values():
            other.assignment = assignments.get(other.member_id, b"")
        group.phase = Phase.STABLE
        for other in group.members.values():
            if other.syncing is not None:
                answer, other.syncing = other.syncing, None
                answer.resolve(self._synced(group, other))
        return self._synced(group, member)

    @staticmethod
    def _synced(group: Group, member: Member) -> Message:
        return {
            "error_code": ErrorCode.NONE,
            "protocol_type": group.protocol_type,
            "protocol_name": group.protocol,
            "assignment": member.assignment,
        }

    def _check(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> tuple[Group | None, ErrorCode]:
        """(group, NONE) if this is a member of the current generation, otherwise (None, error)."""
        group = self.groups.get(group_id)
        error = ErrorCode.UNKNOWN_MEMBER_ID if group is None else group.check(generation, member_id, instance_id)
        return (group if error is ErrorCode.NONE else None), error

    # --- staying and leaving

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        """Extend a member's session. REBALANCE_IN_PROGRESS if it must rejoin."""
        group, error = self._check(group_id, generation, member_id, instance_id)
        if group is None:
            return error
        if group.members[member_id].joining is None:
            self._touch(group, group.members[member_id])
        return ErrorCode.REBALANCE_IN_PROGRESS if group.phase is Phase.PREPARING else ErrorCode.NONE

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> ErrorCode:
        """Remove a member and start a rebalance. A static member may be identified by its instance id only."""
        group = self.groups.get(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if instance_id is not None and not member_id:
            member_id = group.instances.get(instance_id, "")
        if member_id in group.handed_out:
            group.handed_out.pop(member_id).cancel()
            return ErrorCode.NONE
        error = group.identify(member_id, instance_id)
        if error is ErrorCode.NONE:
            self._remove(group, group.members[member_id])
        return error

    def _touch(self, group: Group, member: Member) -> None:
        if member.session is not None:
            member.session.cancel()
        member.session = self._state.timers.after(member.session_seconds, lambda: self._remove(group, member))

    def _remove(self, group: Group, member: Member) -> None:
        if group.members.get(member.member_id) is not member:
            return
        self._drop(group, member)
        if group.phase in (Phase.STABLE, Phase.COMPLETING):
            if group.members:
                self._prepare(group)
            else:
                self._empty(group)
        if group.phase is Phase.PREPARING:
            if group.members:
                self._complete_join_when_ready(group)
            elif group.generation and not group.handed_out:
                self._complete_join(group)

    @staticmethod
    def _drop(group: Group, member: Member) -> None:
        del group.members[member.member_id]
        if member.instance_id is not None and group.instances.get(member.instance_id) == member.member_id:
            del group.instances[member.instance_id]
        if group.leader == member.member_id:
            group.leader = next(iter(group.members), "")
        if member.session is not None:
            member.session.cancel()
        for waiting in (member.joining, member.syncing):
            if waiting is not None:
                waiting.resolve(join_error(ErrorCode.UNKNOWN_MEMBER_ID, member.member_id))
        member.joining = member.syncing = None
