"""The position at which a restart continues."""

from msgspec import Struct, json

META_KEY = b"!meta"

#: Increase it with each incompatible change of rows, events or commands.
FORMAT = 5


class MetaRow(Struct, kw_only=True):
    """Written in every transaction; a restart relies on it alone.

    `offset`: next offset of `hub.intake` to process. `epoch`: generation of ownership. `now_us`: last time of the engine.
    `partitions`: number of partitions, fixed at creation. `created_us`: time of the first take-over, which distinguishes the
    logs of two hubs. `format`: version of the rows, events and commands on the topics; 0: written before format numbers
    existed.
    """

    offset: int
    epoch: int
    now_us: int
    partitions: int
    created_us: int = 0
    format: int = 0


meta_row_decoder = json.Decoder(MetaRow)
