"""The form of a record on each topic: its key and its headers. What its value says is in `contract.py`.

Events and reports are CloudEvents 1.0 in the binary mode of the Kafka protocol binding (`ce_*` headers are attributes). A report
may also come in the structured mode: one JSON document, with `content-type: application/cloudevents+json`.
"""

from typing import Literal, NamedTuple

Kind = Literal["envelope", "events", "reports", "commands", "replies"]


class RecordForm(NamedTuple):
    """`topic`, and what `key` is. `headers` every record has, `optional` some have: name → meaning."""

    topic: str
    key: str
    headers: dict[str, str]
    optional: dict[str, str]


_EVENT = RecordForm(
    topic="hub.events",
    key="Id of the workflow's root, or of the entity itself where it is not a step.",
    headers={
        "ce_specversion": "Version of CloudEvents: 1.0.",
        "ce_type": "Type of the event, for example task.completed.",
        "ce_source": "`/hub/<namespace>/<kind>/<id>` of the entity; `-` stands for no namespace.",
        "ce_id": "Provenance of the event: with ce_source it is unique.",
        "ce_subject": "Id of the entity.",
        "ce_time": "When the engine decided it (RFC 3339, UTC).",
        "ce_sequence": "Number of the event within its entity and run, ten digits, so that text sorts as numbers do.",
        "ce_severitynumber": "Severity as in OpenTelemetry: 5 debug, 9 info, 13 warn, 17 error.",
        "content-type": "Type of the value: application/json.",
    },
    optional={
        "ce_taskname": "Name of the task; absent: the entity is not a task.",
        "ce_namespace": "Namespace of the task; absent: the entity is not a task.",
        "ce_traceparent": "W3C trace context of the task; absent: its submission had none.",
        "traceparent": "The same, where tools of OpenTelemetry look for it.",
    },
)
FORMS: dict[Kind, RecordForm] = {
    "envelope": _EVENT,
    "events": _EVENT,
    "reports": RecordForm(
        topic="hub.intake",
        key="Id of the root task (or of the worker): it decides the partition, as Kafka's default partitioner does.",
        headers={
            "ce_specversion": "Version of CloudEvents: 1.0.",
            "ce_type": "Type of the report, for example task.created.",
            "ce_source": "Who writes it, a URI reference of at most 1,024 bytes.",
            "ce_id": "Its id, at most 255 bytes: a report repeated with the same ce_source and ce_id creates one task.",
        },
        optional={
            "content-type": "Type of the value: application/json; absent: the same.",
            "traceparent": "W3C trace context that the task continues; absent: none.",
            "replyto": "`<partition>:<token>` of hub.replies: where the answer goes, and its key; absent: no answer.",
            "hub-origin": "`<partition>/<offset>` from which an engine forwarded it; absent: it was not forwarded.",
        },
    ),
    "commands": RecordForm(
        topic="hub.commands.<pool>",
        key="Id of the task; empty for a command that is about none.",
        headers={
            "ce_type": "Type of the command, for example attempt.execute.",
            "worker": "Incarnation of the worker that it is for; * stands for every worker of the inbox.",
        },
        optional={},
    ),
    "replies": RecordForm(
        topic="hub.replies",
        key="The token of the request's replyto.",
        headers={"ce_type": "`reply.<kind>`: what is answered."},
        optional={},
    ),
}
