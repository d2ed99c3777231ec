"""How far `hub.intake` may be deleted: everything that was decided longer ago than the retention.

The times on records are their producers' own and may be anything. So the engine notes by its clock which offset it had reached,
in a changelog row (`!intake`, some MARKS_MAX entries) that survives restarts. Pure.
"""

from ..core import INTAKE_KEY, SECOND_US, IntakeRow, encode_row, intake_row_decoder

#: Marks within one retention: deletion is late by one part in so many.
MARKS_MAX = 96

#: Bounds of the time between two marks (seconds).
MARK_SECONDS = (0.25, 3_600.0)


class IntakeMarks:
    """See the module. `retention_seconds`: how long records stay after they were decided."""

    def __init__(self, retention_seconds: float) -> None:
        self._retention_us = round(retention_seconds * SECOND_US)
        seconds = min(max(retention_seconds / MARKS_MAX, MARK_SECONDS[0]), MARK_SECONDS[1])
        self._every_us = round(seconds * SECOND_US)
        self._marks: list[tuple[int, int]] = []

    def restore(self, row: bytes | None, offset: int) -> None:
        """Continue from the row that a former owner wrote, if any; everything before `offset` has been decided. A mark after it
        is not an engine's, and would delete what nobody has decided."""
        marks = [] if row is None else intake_row_decoder.decode(row).marks
        self._marks = [mark for mark in marks if mark[1] <= offset]

    def due(self, now_us: int, offset: int) -> bool:
        """Whether it is time to note that everything before `offset` has been decided."""
        if not self._marks:
            return offset > 0
        time_us, noted = self._marks[-1]
        return offset > noted and now_us - time_us >= self._every_us

    def note(self, now_us: int, offset: int) -> tuple[bytes, bytes]:
        """The changelog row with this mark added, and without those that are too old to be needed again."""
        past = self.deletable(now_us)
        self._marks = [mark for mark in self._marks if past is None or mark[1] >= past]
        self._marks.append((now_us, offset))
        return encode_row(INTAKE_KEY, IntakeRow(marks=self._marks))

    def deletable(self, now_us: int) -> int | None:
        """Records before this offset were decided at least the retention ago; None where that is not known of any."""
        old = [offset for time_us, offset in self._marks if now_us - time_us >= self._retention_us]
        return old[-1] if old else None
