"""Where a restart continues."""

from msgspec import Struct, json

META_KEY = b"!meta"

#: Counted up by whoever changes rows, events or commands so that what is on the topics cannot be read any more.
FORMAT = 5


class MetaRow(Struct, kw_only=True):
    """Written in every transaction, and the only truth for a restart.

    `offset`: the next of `hub.intake` to decide. `epoch`: the generation of ownership. `now_us`: the engine's last time.
    `partitions`: P, fixed at creation. `created_us`: the first take-over; it distinguishes the logs of two hubs.
    `format`: which version of the rows, events and commands the topics hold; 0: written before there were format numbers.
    """

    offset: int
    epoch: int
    now_us: int
    partitions: int
    created_us: int = 0
    format: int = 0


meta_row_decoder = json.Decoder(MetaRow)
