"""The row of a definition."""

from msgspec import Struct, json

from schemas import Definition


class DefinitionRow(Struct, kw_only=True, omit_defaults=True):
    """A definition as this partition knows it. `state`: "active" or "deprecated"; `worker`: the incarnation that announced it."""

    definition: Definition
    sequence: int = 0
    state: str = ""
    worker: str = ""
    registered_at: str = ""
    deprecated_at: str | None = None
    reason: str = ""
    by: str | None = None


definition_row_decoder = json.Decoder(DefinitionRow)
