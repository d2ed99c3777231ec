"""Rows of `hub.state`, the durable state of an engine partition. Key: `<kind>/<id>`; value: JSON with these field names.

The row of a task is the fold of its events, byte for byte; only `evolve.py` changes rows. Points in time are RFC 3339 text as
in events; due times (`*_due_us`) are integer microseconds since the Unix epoch. An absent field has its default.
"""

from .definition import DefinitionRow, definition_row_decoder
from .ended import EndedRow, ended_row_decoder
from .engine import EngineRow, engine_row_decoder
from .intake import IntakeRow, intake_row_decoder
from .meta import FORMAT, META_KEY, MetaRow, meta_row_decoder
from .observed import ObservedRow, observed_row_decoder
from .task import TaskRow, share_values, task_row_decoder
from .timed import TIMER_OF, TaskCategory, TimedRows, divide_rows
from .worker import WorkerRow, worker_row_decoder

__all__ = [
    "FORMAT",
    "META_KEY",
    "TIMER_OF",
    "DefinitionRow",
    "EndedRow",
    "EngineRow",
    "IntakeRow",
    "MetaRow",
    "ObservedRow",
    "TaskCategory",
    "TaskRow",
    "TimedRows",
    "WorkerRow",
    "definition_row_decoder",
    "divide_rows",
    "ended_row_decoder",
    "engine_row_decoder",
    "intake_row_decoder",
    "meta_row_decoder",
    "observed_row_decoder",
    "share_values",
    "task_row_decoder",
    "worker_row_decoder",
]
