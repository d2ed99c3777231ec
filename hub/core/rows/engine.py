"""The row of the engine partition."""

from msgspec import Struct, json


class EngineRow(Struct, kw_only=True, omit_defaults=True):
    """The engine partition, the entity of rejections and take-overs. `run` is always 0. `storage` is "ok", "warning" or "low"."""

    sequence: int = 0
    state: str = ""
    host: str = ""
    pid: int = 0
    started_at: str = ""
    storage: str = "ok"


engine_row_decoder = json.Decoder(EngineRow)
