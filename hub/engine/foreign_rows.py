"""Records of `hub.state` that the engine cannot have written.

Without access control any client can write to the topic. Such a record must neither prevent a partition from starting nor hide
the row that it overwrote."""

from msgspec import Raw, json

from schemas import TERMINAL_STATES

from ..core import LIVE, DefinitionRow, EndedRow, Rejection, TaskRow, check_plan, decode_row, problem_of_definition, us_of

_raw = json.Decoder(Raw)


def problem_of_row(key: bytes, value: bytes) -> str | None:
    """Why the engine cannot have written this row; None if it may have. Rows of unknown kinds are ignored."""
    try:
        entry = decode_row(key, value)
        match entry and entry.row:
            case TaskRow() as row:
                _check_live(row)
            case EndedRow() as row if row.ended not in TERMINAL_STATES:
                raise ValueError(f"ended is {row.ended[:64]!r}")
            case DefinitionRow() as row if entry is not None:
                _check_definition(entry.id, row)
            case Raw() as row:
                _raw.decode(row)
            case dict() as steps if isinstance(check_plan(steps), Rejection):
                raise ValueError("not a valid plan")
    except Exception as error:  # decoders and checks may raise anything for foreign bytes
        return f"{type(error).__name__}: {error}"[:300]
    return None


def _check_definition(entity: str, row: DefinitionRow) -> None:
    if entity.partition("/")[2] != row.definition.id:
        raise ValueError(f"definition is {row.definition.id[:64]!r}")
    if row.state not in ("active", "deprecated"):
        raise ValueError(f"state is {row.state[:64]!r}")
    if (problem := problem_of_definition(row.definition)) is not None:
        raise ValueError(problem)


def _check_live(row: TaskRow) -> None:
    if row.state not in LIVE and row.state not in TERMINAL_STATES:
        raise ValueError(f"invalid state {row.state[:64]!r}")
    us_of(row.created_at)
    if row.state in ("dispatched", "running") and not row.steps.total and row.lease is None:
        raise ValueError(f"missing lease in state {row.state}")
