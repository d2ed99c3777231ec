"""The row of a worker."""

from msgspec import Struct, json

from schemas import TaskOptions


class WorkerRow(Struct, kw_only=True, omit_defaults=True):
    """A worker, on its home partition."""

    run: int
    state: str = ""
    sequence: int = 0
    pool: str = ""
    inbox: int = 0
    queues: list[str] = []
    names: list[str] = []
    options: dict[str, TaskOptions] = {}
    slots: int = 0
    lease_seconds: float = 10.0
    host: str = ""
    pid: int = 0
    registered_at: str = ""


worker_row_decoder = json.Decoder(WorkerRow)
