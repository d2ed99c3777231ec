"""The index of ended tasks."""

from collections import deque
from heapq import heappop, heappush

from ..rows.ended import EndedRow, ended_row_decoder
from ..times import earliest


class EndedIndex:
    """Ended tasks: id -> encoded `EndedRow`, kept until its time; at most `entries_max`, the oldest are removed first.

    Entries with an idempotency key are kept for the whole window of the key. If only such entries are left, `full` is true,
    and new submissions with a key are rejected, because a duplicate could not be detected.
    """

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self._rows: dict[str, bytes] = {}
        self._plain: deque[tuple[int, str]] = deque()
        self._keyed: list[tuple[int, str]] = []

    def put(self, task: str, row: EndedRow, encoded: bytes) -> None:
        """Add an entry, or replace that of an earlier run of the id."""
        self._rows[task] = encoded
        if row.keyed:
            heappush(self._keyed, (row.until_us, task))
        else:
            self._plain.append((row.until_us, task))

    def get(self, task: str) -> EndedRow | None:
        """The entry of an id, or None."""
        encoded = self._rows.get(task)
        return None if encoded is None else ended_row_decoder.decode(encoded)

    def discard(self, task: str) -> None:
        """Remove the entry of an id, which starts a new run."""
        self._rows.pop(task, None)

    @property
    def full(self) -> bool:
        """Whether entries with an idempotency key fill the index."""
        return len(self._keyed) >= self.entries_max

    def take_expired(self, now_us: int, limit: int) -> list[str]:
        """Remove up to `limit` entries that expired or exceed `entries_max`. Returns their ids, for which tombstones must be
        written."""
        gone: list[str] = []
        while self._plain and len(gone) < limit and (self._plain[0][0] <= now_us or len(self._rows) > self.entries_max):
            self._remove(*self._plain.popleft(), gone)
        while self._keyed and len(gone) < limit and self._keyed[0][0] <= now_us:
            self._remove(*heappop(self._keyed), gone)
        return gone

    def _remove(self, until_us: int, task: str, gone: list[str]) -> None:
        row = self.get(task)
        if row is not None and row.until_us == until_us:  # not replaced by a later run of the id
            del self._rows[task]
            gone.append(task)

    def next_expiry(self) -> int | None:
        """Expiry time of the next entry in microseconds, or None."""
        plain, keyed = self._plain[0][0] if self._plain else None, self._keyed[0][0] if self._keyed else None
        return earliest(plain, keyed)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, task: str) -> bool:
        return task in self._rows
