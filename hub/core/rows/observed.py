"""The row of an entity that other processes observe: a subscriber, an alert."""

from msgspec import Struct, json


class ObservedRow(Struct, kw_only=True, omit_defaults=True):
    """An observed entity, on its home partition. `state`: for a subscriber "running", "failing", "unavailable" or "paused", for
    an alert "firing" or "silenced"."""

    run: int
    sequence: int = 0
    state: str = ""


observed_row_decoder = json.Decoder(ObservedRow)
