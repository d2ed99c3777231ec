"""The row of a worker."""

from msgspec import Struct, json


class WorkerRow(Struct, kw_only=True, omit_defaults=True):
    """A worker, on its home partition. `definitions`: ids of what it has registered, as of `revision`."""

    run: int
    state: str = ""
    sequence: int = 0
    pool: str = ""
    inbox: int = 0
    queues: list[str] = []
    revision: int = 0
    definitions: list[str] = []
    slots: int = 0
    lease_seconds: float = 10.0
    host: str = ""
    pid: int = 0
    registered_at: str = ""


worker_row_decoder = json.Decoder(WorkerRow)
