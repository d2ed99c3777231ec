"""Up to which offset the intake may be deleted."""

from msgspec import Struct, json


class IntakeRow(Struct, kw_only=True):
    """The row `!intake`: `marks` are pairs, in order, of a time in microseconds and the next offset to process at that time."""

    marks: list[tuple[int, int]] = []


intake_row_decoder = json.Decoder(IntakeRow)
