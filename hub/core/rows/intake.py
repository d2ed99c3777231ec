"""How far the intake may be deleted."""

from msgspec import Struct, json


class IntakeRow(Struct, kw_only=True):
    """The row `!intake`: `marks` are pairs of a time in microseconds and the next offset to decide at that time, in order."""

    marks: list[tuple[int, int]] = []


intake_row_decoder = json.Decoder(IntakeRow)
