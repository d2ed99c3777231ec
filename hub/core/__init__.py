"""The decisions of the engine, pure. See README.md for the map; `hub.engine` drives them.

What others use of the core stands here, and nothing else of it is imported from outside.
"""

from .bounds import ESCAPED_MAX, ID_BYTES, REASON_MAX, SOURCE_BYTES, cut, escaped_bytes
from .changes import Changes
from .conditions import Conditions
from .consequences import settle
from .decide import REQUESTS, decide_report
from .dispatching.dispatch import dispatch
from .emitted import Command, EmittedEvent, Reply
from .envelope import Envelope, InvalidReport
from .fleet.leases import expire_leases, expire_starts, extend_deadlines, next_lease_expiry
from .graph import check_plan
from .indexes import restore
from .rejection import Rejection
from .rows import (
    FORMAT,
    META_KEY,
    EndedRow,
    EngineRow,
    MetaRow,
    TaskRow,
    WorkerRow,
    ended_row_decoder,
    engine_row_decoder,
    meta_row_decoder,
    task_row_decoder,
    worker_row_decoder,
)
from .rows.task import EMPTY
from .state import PartitionState, Task
from .tasks.retry import problem_of_options
from .time.due import PoisonTimer, TimerKey, take_due
from .times import SECOND_US, text_of, us_of
from .transitions import LIVE

__all__ = [
    "EMPTY",
    "ESCAPED_MAX",
    "ID_BYTES",
    "FORMAT",
    "LIVE",
    "META_KEY",
    "REASON_MAX",
    "REQUESTS",
    "SECOND_US",
    "SOURCE_BYTES",
    "Changes",
    "Command",
    "Conditions",
    "EmittedEvent",
    "EndedRow",
    "EngineRow",
    "Envelope",
    "InvalidReport",
    "MetaRow",
    "PartitionState",
    "PoisonTimer",
    "Rejection",
    "Reply",
    "Task",
    "TaskRow",
    "TimerKey",
    "WorkerRow",
    "check_plan",
    "cut",
    "decide_report",
    "dispatch",
    "ended_row_decoder",
    "engine_row_decoder",
    "escaped_bytes",
    "expire_leases",
    "expire_starts",
    "extend_deadlines",
    "meta_row_decoder",
    "next_lease_expiry",
    "problem_of_options",
    "restore",
    "settle",
    "take_due",
    "task_row_decoder",
    "text_of",
    "us_of",
    "worker_row_decoder",
]
