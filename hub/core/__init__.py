"""The decisions of the engine, as pure code. README.md has the map; `hub.engine` drives it.

This package exports everything that other packages use of the core; they import nothing else of it.
"""

from .admission.validity import check_submission
from .bounds import (
    DEFINITIONS_MAX,
    ESCAPED_MAX,
    ID_BYTES,
    REASON_MAX,
    SOURCE_BYTES,
    check_cancel,
    check_ids,
    cut,
    escaped_bytes,
)
from .changes import Changes
from .conditions import CoreSettings, Known, TimerKey
from .consequences import settle
from .decide import REQUESTS, decide_report
from .dispatching.dispatch import dispatch
from .emitted import Command, EmittedEvent, Reply
from .envelope import Envelope, InvalidReport
from .fleet.definitions import problem_of_definition
from .fleet.leases import expire_leases, expire_starts, extend_deadlines, next_lease_expiry, next_start_deadline
from .graph import check_plan
from .indexes import restore, restore_at_rest, restore_timed, root_of
from .rejection import Rejection
from .rows import (
    FORMAT,
    META_KEY,
    DefinitionRow,
    EndedRow,
    EngineRow,
    IntakeRow,
    MetaRow,
    ObservedRow,
    TaskCategory,
    TaskRow,
    TimedRows,
    WorkerRow,
    divide_rows,
    intake_row_decoder,
    meta_row_decoder,
    share_values,
    task_row_decoder,
)
from .rows.keys import INTAKE_KEY, Entry, decode_row, encode_row, key_of, kind_of, task_in_memory
from .rows.task import EMPTY
from .state import RESTING, Definitions, PartitionState, Task
from .time.due import PoisonTimer, take_due
from .times import SECOND_US, earliest, text_of, us_of
from .transitions import LIVE

__all__ = [
    "DEFINITIONS_MAX",
    "EMPTY",
    "ESCAPED_MAX",
    "FORMAT",
    "ID_BYTES",
    "INTAKE_KEY",
    "LIVE",
    "META_KEY",
    "REASON_MAX",
    "REQUESTS",
    "RESTING",
    "SECOND_US",
    "SOURCE_BYTES",
    "Changes",
    "Command",
    "CoreSettings",
    "DefinitionRow",
    "Definitions",
    "EmittedEvent",
    "EndedRow",
    "EngineRow",
    "Entry",
    "Envelope",
    "IntakeRow",
    "InvalidReport",
    "Known",
    "MetaRow",
    "ObservedRow",
    "PartitionState",
    "PoisonTimer",
    "Rejection",
    "Reply",
    "Task",
    "TaskCategory",
    "TaskRow",
    "TimedRows",
    "TimerKey",
    "WorkerRow",
    "check_cancel",
    "check_ids",
    "check_plan",
    "check_submission",
    "cut",
    "decide_report",
    "decode_row",
    "dispatch",
    "divide_rows",
    "earliest",
    "encode_row",
    "escaped_bytes",
    "expire_leases",
    "expire_starts",
    "extend_deadlines",
    "intake_row_decoder",
    "key_of",
    "kind_of",
    "meta_row_decoder",
    "next_lease_expiry",
    "next_start_deadline",
    "problem_of_definition",
    "restore",
    "restore_at_rest",
    "restore_timed",
    "root_of",
    "settle",
    "share_values",
    "take_due",
    "task_in_memory",
    "task_row_decoder",
    "text_of",
    "us_of",
]
