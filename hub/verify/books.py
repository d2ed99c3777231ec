"""Checks `hub.intake` and `hub.replies` against the log.

Each class takes records one by one and reports violations. `exact`: nothing was committed while the topics were read;
otherwise records newer than the events that were read are not checked.
"""

from array import array
from bisect import bisect_left
from collections.abc import Mapping

from msgspec import Struct, json

from schemas import TaskReply

from .fold import Fold
from .history import LogRecord, headers_of
from .partition_book import PartitionBook
from .report import Findings
from .rows import StateRows
from .tables import SOFT_REPORTS


class IntakeBook:
    """I31: each record of `hub.intake` was processed, is soft state, or is still pending; I6: every src refers to a record there.

    `starts`: log start offsets, read before `hub.state`. Only processed records may be removed. `partial`: number of records
    that may have been processed before the start of the log.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        self.read = 0
        self.partial = 0
        self._starts = dict(starts)
        self._offsets: dict[int, array[int]] = {}
        self._silent: dict[int, array[int]] = {}

    def take(self, partition: int, record: LogRecord, book: PartitionBook | None) -> None:
        """Add a record of intake, in offset order."""
        self.read += 1
        self._offsets.setdefault(partition, array("q")).append(record.offset)
        if (book is None or not book.has_decided(record.offset)) and _report_type(record) not in SOFT_REPORTS:
            self._silent.setdefault(partition, array("q")).append(record.offset)

    def removed(self, partition: int) -> None:
        """The next records were deleted: sources are searched only in the records after them."""
        self._offsets.pop(partition, None)

    def findings(self, found: Findings, books: dict[int, PartitionBook], rows: StateRows, *, exact: bool) -> None:
        """Report records without an effect; if the beginning of the log was deleted, only from its first cause."""
        for book in books.values():
            book.sort()
        for partition, start in self._starts.items():
            if start > (decided_to := rows.meta_offset(partition)):
                message = f"hub.intake starts at offset {start}, but only offsets before {decided_to} were processed"
                found.add("I31", message, partition=partition)
        for partition, offsets in self._silent.items():
            known = books.get(partition)
            decided_to = rows.meta_offset(partition)
            if known is not None and not exact:
                decided_to = min(decided_to, known.input_last + 1)
            decided_from = _first_decided(known, decided_to)
            self.partial += sum(offset < decided_from for offset in offsets)
            for offset in offsets:
                if decided_from <= offset < decided_to and not (known is not None and known.has_decided(offset)):
                    found.add("I31", f"hub.intake offset {offset} was skipped without an event", partition=partition)
        for partition, book in books.items():
            present = self._offsets.get(partition, array("q"))
            for offset in book.decided if present else ():
                at = bisect_left(present, offset)
                if offset >= present[0] and (at == len(present) or present[at] != offset):
                    found.add("I6", f"src refers to hub.intake offset {offset}, which has no record", partition=partition)


def _first_decided(book: PartitionBook | None, decided_to: int) -> int:
    """The first offset whose record must have an event in the retained log."""
    if book is None or not book.truncated:
        return 0
    return book.decided[0] if book.decided else decided_to


class Replies:
    """R1: replies that report an end. `partial`: number of replies about an end that may have been removed."""

    def __init__(self) -> None:
        self.read = 0
        self.partial = 0

    def take(
        self, partition: int, record: LogRecord, fold: Fold, books: dict[int, PartitionBook], found: Findings, *, exact: bool
    ) -> None:
        """Check a record of `hub.replies`, after all events."""
        self.read += 1
        place = f"hub.replies partition {partition} offset {record.offset}"
        try:
            reply = json.decode(record.value or b"", type=TaskReply)
        except (ValueError, RecursionError) as error:
            found.add("I32", f"{place}: the reply does not match its schema: {error}")
            return
        if reply.kind != "ended":
            return
        ended, book = fold.ended.get(reply.task), books.get(reply.partition)
        if ended is not None and (ended.runs > 1 or (reply.state, reply.sequence) == (ended.state, ended.sequence)):
            return
        if book is not None and book.truncated:
            self.partial += 1
        elif ended is None:
            if exact:
                found.add("R1", f"{place} reports {reply.state}, but the log has no end of the task", subject=reply.task)
        else:
            found.add(
                "R1",
                f"{place} reports {reply.state} at sequence {reply.sequence}, the log has {ended.state} at {ended.sequence}",
                partition=ended.partition,
                subject=reply.task,
            )


class _Typed(Struct):
    type: str = ""


def _report_type(record: LogRecord) -> str:
    named = headers_of(record).get("ce_type")
    if named is not None:
        return named.decode(errors="replace")
    try:
        return json.decode(record.value or b"", type=_Typed).type
    except (ValueError, RecursionError):
        return ""
