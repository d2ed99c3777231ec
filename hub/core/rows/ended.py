"""An entry of the ended index."""

from msgspec import Raw, Struct, json

from schemas import ABSENT, TaskError

#: Results up to this size are kept in the ended index, so that late requests are answered without reading the log.
INLINE_RESULT_BYTES_MAX = 1024


class EndedRow(Struct, kw_only=True, omit_defaults=True, gc=False):
    """An entry of the ended index, until `until_us`. `seconds`: how long its last attempt ran, by the worker's clock where
    that says it. A result that is too large for it is on the terminal event."""

    ended: str
    run: int
    sequence: int
    name: str
    until_us: int
    finished_at: str
    seconds: float | None = None
    root: str | None = None
    attempt: int = 0
    payload_hash: str | None = None
    keyed: bool = False
    log_offset: int = 0
    result: Raw = ABSENT
    result_omitted: bool = False
    error: TaskError | None = None
    reason: str = ""


ended_row_decoder = json.Decoder(EndedRow)
