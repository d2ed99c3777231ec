"""Rows of `hub.state`: what an engine partition remembers, as values. Key `<kind>/<id>`, value JSON with these field names.

A task's row is the fold of its events, byte for byte: only `evolve.py` changes one. Points in time are RFC 3339 text as
on the events; what is due later (`*_due_us`) is integer microseconds since the epoch. Absent means the default.
"""

from .definition import DefinitionRow, definition_row_decoder
from .ended import EndedRow, ended_row_decoder
from .engine import EngineRow, engine_row_decoder
from .intake import IntakeRow, intake_row_decoder
from .meta import FORMAT, META_KEY, MetaRow, meta_row_decoder
from .task import TaskRow, task_row_decoder
from .worker import WorkerRow, worker_row_decoder

__all__ = [
    "FORMAT",
    "META_KEY",
    "DefinitionRow",
    "EndedRow",
    "EngineRow",
    "IntakeRow",
    "MetaRow",
    "TaskRow",
    "WorkerRow",
    "definition_row_decoder",
    "ended_row_decoder",
    "engine_row_decoder",
    "intake_row_decoder",
    "meta_row_decoder",
    "task_row_decoder",
    "worker_row_decoder",
]
