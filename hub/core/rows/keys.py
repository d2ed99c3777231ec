"""The codec of `hub.state`: keys `<kind>/<id>` (`!meta`, `!intake`: one per partition), values JSON.

| Key | Row |
|---|---|
| `task/<id>` | `TaskRow` while the task is in memory, then `EndedRow` (its first field is `ended`) |
| `args/<id>` | the arguments of a task if they are too long for its row: `Raw` |
| `plan/<id>` | the plan of a workflow until all its steps are created: specs by key |
| `worker/<incarnation>`, `engine/<partition>` | `WorkerRow`, `EngineRow` |
| `subscriber/<id>`, `alert/<rule>/<key>` | `ObservedRow` |
| `definition/<partition>/<namespace>/<name>@<version>` | `DefinitionRow` |
| `!meta`, `!intake` | `MetaRow`, `IntakeRow` |
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Raw, json

from schemas import StepSpec

from .definition import DefinitionRow, definition_row_decoder
from .ended import EndedRow, ended_row_decoder
from .engine import EngineRow, engine_row_decoder
from .intake import IntakeRow, intake_row_decoder
from .meta import META_KEY, MetaRow, meta_row_decoder
from .observed import ObservedRow, observed_row_decoder
from .task import TaskRow, task_row_decoder
from .worker import WorkerRow, worker_row_decoder

INTAKE_KEY = b"!intake"

Row = (
    TaskRow | EndedRow | WorkerRow | EngineRow | DefinitionRow | ObservedRow | MetaRow | IntakeRow | Raw | Mapping[str, StepSpec]
)

_plan_decoder = json.Decoder(dict[str, StepSpec])
_encoder = json.Encoder()
TASK = b"task/"
_ENDED = b'{"ended":'


def _task(value: bytes) -> TaskRow | EndedRow:
    return ended_row_decoder.decode(value) if value.startswith(_ENDED) else task_row_decoder.decode(value)


_DECODERS: dict[bytes, Callable[[bytes], Row]] = {
    b"task": _task,
    b"args": Raw,
    b"plan": _plan_decoder.decode,
    b"worker": worker_row_decoder.decode,
    b"engine": engine_row_decoder.decode,
    b"definition": definition_row_decoder.decode,
    b"subscriber": observed_row_decoder.decode,
    b"alert": observed_row_decoder.decode,
    META_KEY: meta_row_decoder.decode,
    INTAKE_KEY: intake_row_decoder.decode,
}


class Entry(NamedTuple):
    """A record of `hub.state`. `row` is None for a tombstone."""

    kind: str
    id: str
    row: Row | None


def key_of(kind: str, name: str) -> bytes:
    """The key of the row of an entity."""
    return f"{kind}/{name}".encode()


def encode_row(key: bytes, row: Any) -> tuple[bytes, bytes]:
    """Encode a row. Returns key and value; `Raw` is written unchanged."""
    return key, _encoder.encode(row)


def kind_of(key: bytes) -> str:
    """The kind in a key; may be unknown."""
    return key.partition(b"/")[0].decode(errors="replace")


def task_in_memory(key: bytes, value: bytes) -> str | None:
    """The id of the task of which this is the row, a `TaskRow`; None for another record. Quicker than `decode_row`: a restart has
    most of these."""
    return key[len(TASK) :].decode() if key.startswith(TASK) and not value.startswith(_ENDED) else None


def decode_row(key: bytes, value: bytes | None) -> Entry | None:
    """Decode a record; None for an unknown kind. Raises ValueError or RecursionError if no engine can have written the
    record."""
    kind, _, name = key.partition(b"/")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return None
    return Entry(kind.decode(), name.decode(), None if value is None else decoder(value))
