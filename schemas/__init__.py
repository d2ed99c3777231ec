"""The data types on topics, in the API and in the plugin interface, and nothing else. Imports no other package; pure.

Each type is declared once, as a msgspec struct: validation, encoding, decoding and JSON Schemas derive from it. Input structs
reject unknown fields by name.
"""

from .catalogue import CATALOGUE, OBSERVED_KINDS, TERMINAL_TYPES, TYPE_OF_DATA, EventType
from .commands import (
    COMMANDS,
    CancelAttempt,
    DefinitionsWanted,
    EngineAnnounced,
    ExecuteAttempt,
    GrantAttempt,
    TaskReply,
    WorkWanted,
)
from .decoding import decoding_problem
from .definitions import FIRST_VERSION, Definition, definition_id, parts_of_definition
from .envelope import (
    Event,
    EventBody,
    MalformedEvent,
    MalformedRecord,
    decode_event,
    header_map,
    one_line,
    printable,
    quoted,
    schema_of,
    source_of,
)
from .ids import check_id, derived_id, payload_hash, quoted_with_hash, step_id, task_id_of_cloudevent, task_id_of_key
from .reports import REPORTS, Report
from .tasks import (
    ABSENT,
    DEFAULT_POLICY,
    DEFAULT_RETRY,
    TERMINAL_STATES,
    Backoff,
    Dependency,
    ExecutionPolicy,
    RetryPolicy,
    StepSpec,
    Submission,
    TaskError,
    TaskOptions,
    TaskSpec,
    Timeouts,
)

__distribution__ = "taskhub"

__all__ = [
    "ABSENT",
    "CATALOGUE",
    "COMMANDS",
    "DEFAULT_POLICY",
    "DEFAULT_RETRY",
    "FIRST_VERSION",
    "OBSERVED_KINDS",
    "REPORTS",
    "TERMINAL_STATES",
    "TERMINAL_TYPES",
    "TYPE_OF_DATA",
    "Backoff",
    "CancelAttempt",
    "Definition",
    "DefinitionsWanted",
    "Dependency",
    "EngineAnnounced",
    "Event",
    "EventBody",
    "EventType",
    "ExecuteAttempt",
    "ExecutionPolicy",
    "GrantAttempt",
    "MalformedEvent",
    "MalformedRecord",
    "Report",
    "RetryPolicy",
    "StepSpec",
    "Submission",
    "TaskError",
    "TaskOptions",
    "TaskReply",
    "TaskSpec",
    "Timeouts",
    "WorkWanted",
    "check_id",
    "decode_event",
    "decoding_problem",
    "definition_id",
    "derived_id",
    "header_map",
    "one_line",
    "parts_of_definition",
    "payload_hash",
    "printable",
    "quoted",
    "quoted_with_hash",
    "schema_of",
    "source_of",
    "step_id",
    "task_id_of_cloudevent",
    "task_id_of_key",
]
