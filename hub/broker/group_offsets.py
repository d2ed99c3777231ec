"""The durable state of consumer groups: committed offsets, and since when a group has had no members."""

from typing import Any

from ..protocol import ErrorCode
from .group_state import CommittedOffset, Group, Phase
from .state import BrokerState


class GroupOffsets:
    """Committed offsets of `groups`; the group coordinator shares this dictionary."""

    def __init__(self, state: BrokerState, groups: dict[str, Group]) -> None:
        self._state = state
        self._groups = groups
        state.pending.register("offsets", self._apply_offsets)
        state.pending.register("delete_group", self._apply_delete_group)
        state.pending.register("group_empty", self._apply_empty_since)
        state.pending.register("forget_offsets", self._apply_forget_offsets)
        state.topics.on_deleted.append(self._forget_topic)

    # --- committing

    def check_commit(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        """Whether this sender may commit offsets: NONE or the error. A negative generation is accepted only while the group
        has no members."""
        group = self._groups.get(group_id)
        if generation < 0:
            if group is None or not group.members:
                return ErrorCode.NONE
            return ErrorCode.UNKNOWN_MEMBER_ID
        if group is None:
            return ErrorCode.ILLEGAL_GENERATION
        error = group.check(generation, member_id, instance_id)
        if error is ErrorCode.NONE and group.phase is Phase.COMPLETING:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return error

    def check_transactional_commit(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        """As `check_commit`, but a sender without member id is not checked: its transactional id fences it."""
        if generation < 0 and not member_id and instance_id is None:
            return ErrorCode.NONE
        group = self._groups.get(group_id)
        return ErrorCode.UNKNOWN_MEMBER_ID if group is None else group.check(generation, member_id, instance_id)

    def commit(self, group_id: str, offsets: list[tuple[str, int, int, int, str | None]]) -> None:
        """Store (topic, partition, offset, leader epoch, metadata) for a group."""
        known = [offset for offset in offsets if self._state.log(offset[0], offset[1]) is not None]
        if known:
            self._state.record("offsets", group_id, known, self._state.clock.now_ms())

    def _apply_offsets(self, group_id: str, offsets: list[tuple[str, int, int, int, str | None]], now_ms: int) -> None:
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = Group(group_id)
        for topic, partition, offset, leader_epoch, metadata in offsets:
            group.offsets[topic, partition] = CommittedOffset(offset, leader_epoch, metadata, now_ms)

    def delete(self, group_id: str) -> ErrorCode:
        """Remove an empty group and its offsets."""
        group = self._groups.get(group_id)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if group.members or group.handed_out:
            return ErrorCode.NON_EMPTY_GROUP
        self._state.record("delete_group", group_id)
        return ErrorCode.NONE

    def _apply_delete_group(self, group_id: str) -> None:
        self._groups.pop(group_id, None)

    # --- expiry

    def expire(self, before_ms: int) -> None:
        """Remove offsets committed before `before_ms` of groups that have had no members since before then; remove groups that
        become empty."""
        for group in list(self._groups.values()):
            if group.phase is not Phase.EMPTY or group.members or group.handed_out:
                continue
            if group.empty_since_ms < before_ms:
                old = [place for place, offset in group.offsets.items() if offset.committed_ms < before_ms]
                if old:
                    self._state.record("forget_offsets", group.group_id, old)
            if not group.offsets:
                self._groups.pop(group.group_id, None)

    def _apply_forget_offsets(self, group_id: str, places: list[tuple[str, int]]) -> None:
        if group_id in self._groups:
            for topic, partition in places:
                self._groups[group_id].offsets.pop((topic, partition), None)

    def _forget_topic(self, name: str) -> None:
        """Remove the offsets of a deleted topic: they must not apply to a later topic of the same name."""
        for group in self._groups.values():
            for place in [place for place in group.offsets if place[0] == name]:
                del group.offsets[place]

    def note_empty(self, group: Group, since_ms: int) -> None:
        """Set since when a group has had no members (-1: it has members); journaled if the group has offsets, whose expiration
        depends on it."""
        if group.empty_since_ms == since_ms:
            return
        if group.offsets:
            self._state.record("group_empty", group.group_id, since_ms)
        else:
            group.empty_since_ms = since_ms

    def _apply_empty_since(self, group_id: str, since_ms: int) -> None:
        if group_id in self._groups:
            self._groups[group_id].empty_since_ms = since_ms

    def members_are_gone(self) -> None:
        """After a restart: groups that had members have none from now on."""
        for group in self._groups.values():
            if group.empty_since_ms < 0:
                self.note_empty(group, self._state.clock.now_ms())

    # --- checkpoints

    def snapshot(self) -> list[Any]:
        """Committed offsets, for a checkpoint."""
        return [
            (
                group.group_id,
                [(topic, partition, *value) for (topic, partition), value in group.offsets.items()],
                group.empty_since_ms,
            )
            for group in self._groups.values()
            if group.offsets
        ]

    def restore(self, snapshot: list[Any]) -> None:
        """Inverse of `snapshot`."""
        for group_id, offsets, *empty_since_ms in snapshot:
            group = self._groups[group_id] = Group(group_id)
            group.empty_since_ms = empty_since_ms[0] if empty_since_ms else -1
            for topic, partition, *value in offsets:
                group.offsets[topic, partition] = CommittedOffset(*value)
