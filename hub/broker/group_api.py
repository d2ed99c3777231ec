"""Requests about consumer groups: membership, and describing, listing and deleting groups."""

from typing import Any

from ..protocol import ApiKey, ErrorCode, Message
from .group_state import JoinRequest, Member
from .groups import GroupCoordinator
from .state import BrokerState
from .timing import Deferred


class GroupApi:
    """Handlers of the group requests."""

    def __init__(self, state: BrokerState, groups: GroupCoordinator) -> None:
        self._state = state
        self._groups = groups

    def handlers(self) -> dict[int, Any]:
        """Handlers by API key."""
        return {
            ApiKey.FIND_COORDINATOR: self._find_coordinator,
            ApiKey.JOIN_GROUP: self._join,
            ApiKey.HEARTBEAT: self._heartbeat,
            ApiKey.LEAVE_GROUP: self._leave,
            ApiKey.SYNC_GROUP: self._sync,
            ApiKey.DESCRIBE_GROUPS: self._describe,
            ApiKey.LIST_GROUPS: self._list,
            ApiKey.DELETE_GROUPS: self._delete,
        }

    def _find_coordinator(self, version: int, message: Message, client: Any) -> Message:
        if message["key_type"] not in (0, 1):
            return {"error_code": ErrorCode.INVALID_REQUEST, "coordinators": []}
        node = {
            "node_id": self._state.settings.node_id,
            "host": self._state.host,
            "port": self._state.port,
            "error_code": ErrorCode.NONE,
        }
        return {**node, "coordinators": [{"key": key, **node} for key in message["coordinator_keys"]]}

    def _join(self, version: int, message: Message, client: Any) -> Message | Deferred:
        return self._groups.join(
            JoinRequest(
                message["group_id"],
                message["member_id"],
                message["group_instance_id"],
                client.client_id,
                client.host,
                message["session_timeout_ms"],
                message["rebalance_timeout_ms"],
                message["protocol_type"],
                [(protocol["name"], protocol["metadata"]) for protocol in message["protocols"]],
                must_know_id=version >= 4,
            )
        )

    def _sync(self, version: int, message: Message, client: Any) -> Message | Deferred:
        assignments = {entry["member_id"]: entry["assignment"] for entry in message["assignments"]}
        return self._groups.sync(
            message["group_id"],
            message["generation_id"],
            message["member_id"],
            message["group_instance_id"],
            assignments,
        )

    def _heartbeat(self, version: int, message: Message, client: Any) -> Message:
        error = self._groups.heartbeat(
            message["group_id"], message["generation_id"], message["member_id"], message["group_instance_id"]
        )
        return {"error_code": error}

    def _leave(self, version: int, message: Message, client: Any) -> Message:
        if version < 3:
            return {"error_code": self._groups.leave(message["group_id"], message["member_id"], None)}
        members = [
            {
                "member_id": entry["member_id"],
                "group_instance_id": entry["group_instance_id"],
                "error_code": self._groups.leave(message["group_id"], entry["member_id"], entry["group_instance_id"]),
            }
            for entry in message["members"]
        ]
        return {"error_code": ErrorCode.NONE, "members": members}

    def _describe(self, version: int, message: Message, client: Any) -> Message:
        return {"groups": [self._describe_group(group_id) for group_id in message["groups"]]}

    def _describe_group(self, group_id: str) -> Message:
        group = self._groups.groups.get(group_id)
        if group is None:
            return {"error_code": ErrorCode.NONE, "group_id": group_id, "group_state": "Dead"}
        return {
            "error_code": ErrorCode.NONE,
            "group_id": group_id,
            "group_state": group.phase.value,
            "protocol_type": group.protocol_type,
            "protocol_data": group.protocol,
            "members": [self._describe_member(member, group.protocol) for member in group.members.values()],
        }

    @staticmethod
    def _describe_member(member: Member, protocol: str) -> Message:
        return {
            "member_id": member.member_id,
            "group_instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
            "member_metadata": member.metadata(protocol),
            "member_assignment": member.assignment,
        }

    def _list(self, version: int, message: Message, client: Any) -> Message:
        wanted = set(message["states_filter"])
        groups = [
            {"group_id": group.group_id, "protocol_type": group.protocol_type, "group_state": group.phase.value}
            for group in self._groups.groups.values()
            if not wanted or group.phase.value in wanted
        ]
        return {"error_code": ErrorCode.NONE, "groups": groups}

    def _delete(self, version: int, message: Message, client: Any) -> Deferred:
        results = [
            {"group_id": group_id, "error_code": self._groups.offsets.delete(group_id)} for group_id in message["groups_names"]
        ]
        return self._state.when_stable({"results": results})
