"""Admin requests: cluster and topic metadata; creating and deleting topics, adding partitions, changing settings, deleting
records."""

import uuid
from collections.abc import Iterable
from typing import Any

from ..protocol import ApiKey, ErrorCode, Message
from .errors import BrokerError
from .state import BrokerState
from .timing import Deferred
from .topic_settings import SETTINGS, SettingType, check_settings, effective, list_items
from .topics import Topic

_NO_UUID = uuid.UUID(int=0)
_TOPIC_RESOURCE, _BROKER_RESOURCE = 2, 4
_SOURCE_TOPIC, _SOURCE_DEFAULT = 1, 5
_SET, _DELETE, _APPEND, _SUBTRACT = range(4)


class AdminApi:
    """Handlers of the admin requests."""

    def __init__(self, state: BrokerState) -> None:
        self._state = state

    def handlers(self) -> dict[int, Any]:
        """Handlers by API key."""
        return {
            ApiKey.METADATA: self._metadata,
            ApiKey.CREATE_TOPICS: self._create_topics,
            ApiKey.DELETE_TOPICS: self._delete_topics,
            ApiKey.DELETE_RECORDS: self._delete_records,
            ApiKey.DESCRIBE_CONFIGS: self._describe_configs,
            ApiKey.ALTER_CONFIGS: self._alter_configs,
            ApiKey.DESCRIBE_LOG_DIRS: self._describe_log_dirs,
            ApiKey.CREATE_PARTITIONS: self._create_partitions,
            ApiKey.INCREMENTAL_ALTER_CONFIGS: self._alter_configs,
            ApiKey.DESCRIBE_CLUSTER: self._describe_cluster,
        }

    # --- metadata

    def _node(self) -> Message:
        return {"node_id": self._state.settings.node_id, "host": self._state.host, "port": self._state.port}

    def _metadata(self, version: int, message: Message, client: Any) -> Message | Deferred:
        asked = message["topics"]
        created = False
        if asked is None or (version == 0 and not asked):
            topics = [self._describe(topic) for topic in self._state.topics.values()]
        else:
            before = len(self._state.topics)
            topics = [self._find(entry, version, message["allow_auto_topic_creation"]) for entry in asked]
            created = len(self._state.topics) != before
        answer = {
            "brokers": [self._node()],
            "cluster_id": self._state.settings.cluster_id,
            "controller_id": self._state.settings.node_id,
            "topics": topics,
        }
        return self._state.when_stable(answer) if created else answer

    def _find(self, entry: Message, version: int, may_create: Any) -> Message:
        name, topic_id = entry["name"], entry["topic_id"]
        if name is None:
            topic = self._state.topics.by_id(topic_id)
            missing = {"error_code": ErrorCode.UNKNOWN_TOPIC_ID, "name": None if version >= 12 else "", "topic_id": topic_id}
            return missing if topic is None else self._describe(topic)
        topic = self._state.topics.get(name)
        if topic is None and may_create and self._state.settings.auto_create_topics and self._state.storage.writable:
            try:
                topic = self._state.topics.create(name, self._state.settings.default_partitions, {})
            except BrokerError as error:
                return {"error_code": error.code, "name": name}
        if topic is None:
            return {"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "name": name}
        return self._describe(topic)

    def _describe(self, topic: Topic) -> Message:
        node = self._state.settings.node_id
        return {
            "error_code": ErrorCode.NONE,
            "name": topic.name,
            "topic_id": topic.topic_id,
            "partitions": [
                {
                    "error_code": ErrorCode.NONE,
                    "partition_index": index,
                    "leader_id": node,
                    "leader_epoch": 0,
                    "replica_nodes": [node],
                    "isr_nodes": [node],
                }
                for index in range(len(topic.logs))
            ],
        }

    def _describe_cluster(self, version: int, message: Message, client: Any) -> Message:
        node = self._node()
        return {
            "error_code": ErrorCode.NONE,
            "cluster_id": self._state.settings.cluster_id,
            "controller_id": self._state.settings.node_id,
            "brokers": [{"broker_id": node["node_id"], "host": node["host"], "port": node["port"]}],
        }

    # --- topics

    def _create_topics(self, version: int, message: Message, client: Any) -> Deferred:
        results = [self._create_topic(entry, validate_only=message["validate_only"]) for entry in message["topics"]]
        return self._state.when_stable({"topics": results})

    def _create_topic(self, entry: Message, *, validate_only: bool) -> Message:
        name, partitions = entry["name"], entry["num_partitions"]
        try:
            configs = check_settings({config["name"]: config["value"] for config in entry["configs"]})
            partitions = self._partition_count(entry)
            self._require_writable()
            if validate_only:
                self._state.topics.check_new(name, partitions, configs)
                topic_id = _NO_UUID
            else:
                topic_id = self._state.topics.create(name, partitions, configs).topic_id
        except BrokerError as error:
            return {"name": name, "error_code": error.code, "error_message": str(error), "configs": None}
        return {
            "name": name,
            "topic_id": topic_id,
            "error_code": ErrorCode.NONE,
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": [_config(key, value, given=key in configs) for key, value in effective(configs).items()],
        }

    def _partition_count(self, entry: Message) -> int:
        assignments = entry["assignments"]
        if assignments:
            node = [self._state.settings.node_id]
            indexes = sorted(assignment["partition_index"] for assignment in assignments)
            if indexes != list(range(len(indexes))) or any(a["broker_ids"] != node for a in assignments):
                raise BrokerError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "this cluster has a single node")
            return len(assignments)
        if entry["replication_factor"] not in (-1, 1):
            raise BrokerError(ErrorCode.INVALID_REPLICATION_FACTOR, "this cluster has a single node")
        count: int = entry["num_partitions"]
        return self._state.settings.default_partitions if count == -1 else count

    def _require_writable(self) -> None:
        if not self._state.storage.writable:
            raise BrokerError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full; free space or shorten the retention of topics")

    def _delete_topics(self, version: int, message: Message, client: Any) -> Deferred:
        entries = message["topics"] or [{"name": name, "topic_id": _NO_UUID} for name in message["topic_names"]]
        return self._state.when_stable({"responses": [self._delete_topic(entry) for entry in entries]})

    def _delete_topic(self, entry: Message) -> Message:
        name, topic_id = entry["name"], entry["topic_id"]
        topic = self._state.topics.by_id(topic_id) if name is None else self._state.topics.get(name)
        if topic is None:
            code = ErrorCode.UNKNOWN_TOPIC_ID if name is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return {"name": name, "topic_id": topic_id, "error_code": code}
        self._state.topics.delete(topic)
        return {"name": topic.name, "topic_id": topic.topic_id, "error_code": ErrorCode.NONE}

    def _create_partitions(self, version: int, message: Message, client: Any) -> Deferred:
        results = [self._grow(entry, validate_only=message["validate_only"]) for entry in message["topics"]]
        return self._state.when_stable({"results": results})

    def _grow(self, entry: Message, *, validate_only: bool) -> Message:
        topic = self._state.topics.get(entry["name"])
        if topic is None:
            return {"name": entry["name"], "error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        try:
            self._require_writable()
            if not validate_only:
                self._state.topics.add_partitions(topic, entry["count"])
        except BrokerError as error:
            return {"name": entry["name"], "error_code": error.code, "error_message": str(error)}
        return {"name": entry["name"], "error_code": ErrorCode.NONE}

    def _delete_records(self, version: int, message: Message, client: Any) -> Deferred:
        results = []
        for topic in message["topics"]:
            partitions = [
                self._delete_before(topic["name"], entry["partition_index"], entry["offset"]) for entry in topic["partitions"]
            ]
            results.append({"name": topic["name"], "partitions": partitions})
        return self._state.when_stable({"topics": results})

    def _delete_before(self, name: str, partition: int, offset: int) -> Message:
        log = self._state.log(name, partition)
        if log is None:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return {"partition_index": partition, "low_watermark": -1, "error_code": code}
        if offset == -1:
            offset = log.stable_end
        if not log.start <= offset <= log.stable_end:
            return {"partition_index": partition, "low_watermark": -1, "error_code": ErrorCode.OFFSET_OUT_OF_RANGE}
        self._state.topics.delete_records(log, offset)
        return {"partition_index": partition, "low_watermark": log.start, "error_code": ErrorCode.NONE}

    # --- space

    def _describe_log_dirs(self, version: int, message: Message, client: Any) -> Message:
        """Sizes of partitions, and of the disk (KIP-827), in bytes. The size of a partition includes its segment files and the
        batches that are not yet in a segment file."""
        try:
            total, usable = self._state.storage.disk_space()
        except OSError:
            return {
                "error_code": ErrorCode.NONE,
                "results": [{"error_code": ErrorCode.KAFKA_STORAGE_ERROR, "log_dir": "", "topics": []}],
            }
        asked = message["topics"]
        if asked is None:
            asked = [{"topic": t.name, "partitions": range(len(t.logs))} for t in self._state.topics.values()]
        found = [{"name": entry["topic"], "partitions": self._sizes(entry["topic"], entry["partitions"])} for entry in asked]
        result = {
            "error_code": ErrorCode.NONE,
            "log_dir": self._state.storage.location,
            "topics": [topic for topic in found if topic["partitions"]],
            "total_bytes": total,
            "usable_bytes": usable,
        }
        return {"error_code": ErrorCode.NONE, "results": [result]}

    def _sizes(self, topic: str, partitions: Iterable[int]) -> list[Message]:
        logs = [(index, self._state.log(topic, index)) for index in partitions]
        return [
            {
                "partition_index": index,
                "partition_size": log.file_bytes + log.memory_bytes,
                "offset_lag": 0,
            }
            for index, log in logs
            if log is not None
        ]

    # --- settings

    def _describe_configs(self, version: int, message: Message, client: Any) -> Message:
        return {"results": [self._describe_resource(entry) for entry in message["resources"]]}

    def _describe_resource(self, entry: Message) -> Message:
        kind, name = entry["resource_type"], entry["resource_name"]
        answer: Message = {"resource_type": kind, "resource_name": name, "error_code": ErrorCode.NONE, "configs": []}
        if kind == _BROKER_RESOURCE:
            return answer
        topic = self._state.topics.get(name) if kind == _TOPIC_RESOURCE else None
        if topic is None:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if kind == _TOPIC_RESOURCE else ErrorCode.INVALID_REQUEST
            return {**answer, "error_code": code}
        wanted = entry["configuration_keys"] or None
        answer["configs"] = [
            _config(key, value, given=key in topic.configs)
            for key, value in effective(topic.configs).items()
            if wanted is None or key in wanted
        ]
        return answer

    def _alter_configs(self, version: int, message: Message, client: Any) -> Deferred:
        """AlterConfigs (replaces all settings) and IncrementalAlterConfigs (entries have a `config_operation`)."""
        validate_only = message["validate_only"]
        answers = [self._alter_resource(entry, validate_only=validate_only) for entry in message["resources"]]
        return self._state.when_stable({"responses": answers})

    def _alter_resource(self, entry: Message, *, validate_only: bool) -> Message:
        kind, name = entry["resource_type"], entry["resource_name"]
        answer: Message = {"resource_type": kind, "resource_name": name, "error_code": ErrorCode.NONE}
        topic = self._state.topics.get(name)
        try:  # allowed on a full disk: a shorter retention frees space
            if kind != _TOPIC_RESOURCE:
                raise BrokerError(ErrorCode.INVALID_REQUEST, "only the settings of topics can be changed")
            if topic is None:
                raise BrokerError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
            configs = check_settings(_changed(topic.configs, entry["configs"]))
            if not validate_only:
                self._state.topics.configure(topic, configs)
        except BrokerError as error:
            return {**answer, "error_code": error.code, "error_message": str(error)}
        return answer


def _changed(configs: dict[str, str], entries: list[Message]) -> dict[str, str | None]:
    """The settings after the given changes. Entries without operations replace all settings."""
    if not any("config_operation" in entry for entry in entries):
        return {entry["name"]: entry["value"] for entry in entries}
    result: dict[str, str | None] = dict(configs)
    for entry in entries:
        name, value, operation = entry["name"], entry["value"], entry["config_operation"]
        if operation == _SET:
            result[name] = value
        elif operation == _DELETE:
            result.pop(name, None)
        else:
            result[name] = _changed_list(name, effective(configs).get(name, ""), value or "", operation)
    return result


def _changed_list(name: str, before: str, value: str, operation: int) -> str:
    setting = SETTINGS.get(name)
    if operation not in (_APPEND, _SUBTRACT) or setting is None or setting.type is not SettingType.LIST:
        raise BrokerError(ErrorCode.INVALID_CONFIG, f"{name} is not a list: append and subtract do not apply")
    given = list_items(value)
    kept = [item for item in list_items(before) if item not in given]
    return ",".join(kept + given if operation == _APPEND else kept)


def _config(name: str, value: str, *, given: bool) -> Message:
    setting = SETTINGS[name]
    source = _SOURCE_TOPIC if given else _SOURCE_DEFAULT
    return {
        "name": name,
        "value": value,
        "read_only": bool(setting.fixed),
        "config_source": source,
        "is_default": not given,
        "synonyms": [{"name": name, "value": value, "source": source}],
        "config_type": setting.type,
    }
