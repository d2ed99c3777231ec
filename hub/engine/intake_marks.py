"""Determines up to which offset `hub.intake` may be deleted: records processed longer ago than the retention.

Timestamps of records are set by producers and may have any value. So the engine records, by its own clock, which offset it had
reached, in a changelog row (`!intake`, about MARKS_MAX entries) that survives restarts. Pure.
"""

from ..core import INTAKE_KEY, SECOND_US, IntakeRow, encode_row, intake_row_decoder

#: Marks per retention period: deletion is late by at most the retention divided by this number.
MARKS_MAX = 96

#: Shortest and longest time between two marks (seconds).
MARK_SECONDS = (0.25, 3_600.0)


class IntakeMarks:
    """The marks of one partition. `retention_seconds`: how long records are kept after they were processed."""

    def __init__(self, retention_seconds: float) -> None:
        self._retention_us = round(retention_seconds * SECOND_US)
        seconds = min(max(retention_seconds / MARKS_MAX, MARK_SECONDS[0]), MARK_SECONDS[1])
        self._every_us = round(seconds * SECOND_US)
        self._marks: list[tuple[int, int]] = []

    def restore(self, row: bytes | None, offset: int) -> None:
        """Restore the marks of an earlier owner, if any; everything before `offset` was processed. Later marks cannot be from
        an engine and are ignored, because they would delete unprocessed records."""
        marks = [] if row is None else intake_row_decoder.decode(row).marks
        self._marks = [mark for mark in marks if mark[1] <= offset]

    def due(self, now_us: int, offset: int) -> bool:
        """Whether it is time for a mark that everything before `offset` was processed."""
        if not self._marks:
            return offset > 0
        time_us, noted = self._marks[-1]
        return offset > noted and now_us - time_us >= self._every_us

    def note(self, now_us: int, offset: int) -> tuple[bytes, bytes]:
        """Add a mark and remove obsolete ones. Returns key and value of the changelog row."""
        past = self.deletable(now_us)
        self._marks = [mark for mark in self._marks if past is None or mark[1] >= past]
        self._marks.append((now_us, offset))
        return encode_row(INTAKE_KEY, IntakeRow(marks=self._marks))

    def deletable(self, now_us: int) -> int | None:
        """The offset before which all records were processed at least the retention ago, or None."""
        old = [offset for time_us, offset in self._marks if now_us - time_us >= self._retention_us]
        return old[-1] if old else None
