"""Records of `hub.state` that the engine cannot have written.

Nobody else writes there, but without access control anybody can. Such a record must not keep a partition from starting, nor hide
the row that it was written over."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw, json

from schemas import TERMINAL_STATES, Submission

from ..core import (
    LIVE,
    META_KEY,
    Rejection,
    TaskRow,
    check_plan,
    ended_row_decoder,
    engine_row_decoder,
    meta_row_decoder,
    task_row_decoder,
    us_of,
    worker_row_decoder,
)
from .intake_marks import INTAKE_KEY, IntakeRow

_raw = json.Decoder(Raw)
_plan = json.Decoder(Submission.__annotations__["tasks"])
_intake = json.Decoder(IntakeRow)


def problem_of_row(key: bytes, value: bytes) -> str | None:
    """Why the engine cannot have written this row; None where it may have. Rows of unknown kinds are nobody's and are ignored."""
    try:
        kind, _, _ = key.decode().partition("/")
        check = _CHECKS.get(kind)
        if check is not None:
            check(value)
    except Exception as error:  # Whatever a decoder or a check makes of foreign bytes.
        return f"{type(error).__name__}: {error}"[:300]
    return None


def _check_task(value: bytes) -> None:
    if value.startswith(b'{"ended"'):
        row = ended_row_decoder.decode(value)
        if row.ended not in TERMINAL_STATES:
            raise ValueError(f"ended is {row.ended[:64]!r}")
        return
    _check_live(task_row_decoder.decode(value))


def _check_live(row: TaskRow) -> None:
    if row.state not in LIVE and row.state not in TERMINAL_STATES:
        raise ValueError(f"state is {row.state[:64]!r}")
    us_of(row.created_at)
    if row.state in ("dispatched", "running") and not row.nodes and row.worker is None:
        raise ValueError(f"worker is missing in state {row.state}")


def _check_plan(value: bytes) -> None:
    nodes = _plan.decode(value)
    if nodes is None or isinstance(check_plan(nodes), Rejection):
        raise ValueError("it is not a plan")


_CHECKS: dict[str, Callable[[bytes], Any]] = {
    "task": _check_task,
    "args": _raw.decode,
    "plan": _check_plan,
    "worker": worker_row_decoder.decode,
    "engine": engine_row_decoder.decode,
    META_KEY.decode(): meta_row_decoder.decode,
    INTAKE_KEY.decode(): _intake.decode,
}
