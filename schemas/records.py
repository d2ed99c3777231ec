"""The key and headers of the records of each topic. `contract.py` has the types of their values.

Events and reports are CloudEvents 1.0 in the binary mode of the Kafka protocol binding (`ce_*` headers are attributes). A report
may also come in the structured mode: one JSON document, with `content-type: application/cloudevents+json`.
"""

from typing import Literal, NamedTuple

Kind = Literal["envelope", "events", "reports", "commands", "replies"]


class RecordForm(NamedTuple):
    """Topic, meaning of the key, and meaning of headers by name: `headers` are always present, `optional` ones not."""

    topic: str
    key: str
    headers: dict[str, str]
    optional: dict[str, str]


_EVENT = RecordForm(
    topic="hub.events",
    key="Id of the workflow's root, or of the entity itself if it is not a step.",
    headers={
        "ce_specversion": "Version of CloudEvents: 1.0.",
        "ce_type": "Type of the event, for example task.completed.",
        "ce_source": "`/hub/<namespace>/<kind>/<id>` of the entity; `-` stands for no namespace.",
        "ce_id": "Provenance of the event: with ce_source it is unique.",
        "ce_subject": "Id of the entity.",
        "ce_time": "Time of the event by the engine's clock (RFC 3339, UTC).",
        "ce_sequence": "Number of the event within its entity and run, with ten digits, so that text order equals numeric order.",
        "ce_severitynumber": "Severity as in OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error.",
        "content-type": "Type of the value: application/json.",
    },
    optional={
        "ce_taskname": "Name of the task; absent: the entity is not a task.",
        "ce_namespace": "Namespace of the task; absent: the entity is not a task.",
        "ce_traceparent": "W3C trace context of the task: trace, and parent of its first span; absent: derived from its id.",
        "traceparent": "The same value under the name that OpenTelemetry tools use.",
    },
)
FORMS: dict[Kind, RecordForm] = {
    "envelope": _EVENT,
    "events": _EVENT,
    "reports": RecordForm(
        topic="hub.intake",
        key="Id of the root task (or of the worker), which determines the partition as in Kafka's default partitioner.",
        headers={
            "ce_specversion": "Version of CloudEvents: 1.0.",
            "ce_type": "Type of the report, for example task.created.",
            "ce_source": "Producer of the report, a URI reference of at most 1,024 bytes.",
            "ce_id": "Id of the report, at most 255 bytes: reports with the same ce_source and ce_id create one task.",
        },
        optional={
            "content-type": "Type of the value: application/json; absent: the same.",
            "traceparent": "W3C trace context that the task continues; absent: none.",
            "replyto": "Partition of hub.replies and key of the reply, as `<partition>:<token>`; absent: no reply.",
            "hub-origin": "`<partition>/<offset>` from which an engine forwarded it; absent: it was not forwarded.",
        },
    ),
    "commands": RecordForm(
        topic="hub.commands.<pool>",
        key="Id of the task; empty for a command without a task.",
        headers={
            "ce_type": "Type of the command, for example attempt.execute.",
            "worker": "Target incarnation; * for all workers of the inbox.",
        },
        optional={},
    ),
    "replies": RecordForm(
        topic="hub.replies",
        key="The token of the request's replyto.",
        headers={"ce_type": "Kind of the reply: `reply.<kind>`."},
        optional={},
    ),
}
