"""Whose turn it is at a free slot. Engine partitions give out work on their own, and together they may give out more than there
are slots: what finds none is handed back, and its partition gets no more here until it is offered a slot again.

The one that works already is always faster than one that has to be told first. So who was refused for long has a slot kept free.
"""

import threading

#: Refused for so long, a partition has the next free slot kept for it (seconds).
STARVING_SECONDS = 1.0

#: For so long (seconds): it has to hear of it, and its command has to arrive. What it had may have been run elsewhere meanwhile.
KEPT_SECONDS = 0.5


class Turns:
    """Partitions that were refused, longest first. Times are the caller's. The event loop decides; the heartbeat thread asks
    `is_refused`, so whatever touches the refusals holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused_at: dict[int, float] = {}
        self._kept_for: int | None = None
        self._kept_until = 0.0
        self._rounds = 0

    def refuse(self, partition: int, now: float) -> None:
        """Work of this partition found no slot."""
        with self._lock:
            self._refused_at.setdefault(partition, now)
        self._rounds = 0

    def is_refused(self, partition: int) -> bool:
        """Whether this partition is to give nothing more here. From any thread."""
        with self._lock:
            return partition in self._refused_at

    def may_begin(self, partition: int, free: int, now: float) -> bool:
        """Whether work of this partition may have one of so many free slots."""
        if self._kept_for is not None and now >= self._kept_until:
            self._kept_for = None
        return free > 1 or (free == 1 and self._kept_for in (None, partition))

    def begin(self, partition: int) -> None:
        """Work of this partition has got a slot."""
        if partition == self._kept_for:
            self._kept_for = None

    def keep(self, now: float) -> list[int]:
        """A slot gets free: whoever starves, and is to be told that the slot is kept for it."""
        longest = next(iter(self._refused_at), None)
        if longest is None or now < self._kept_until or now - self._refused_at[longest] < STARVING_SECONDS:
            return []
        with self._lock:
            del self._refused_at[longest]
        self._kept_for, self._kept_until = longest, now + KEPT_SECONDS
        return [longest]

    def offer(self, free: int, now: float) -> list[int]:
        """So many slots are free and nothing waits for them: who is to be told, and more each time, while nobody comes."""
        if self._kept_for is not None and now < self._kept_until:
            free -= 1
        offered = list(self._refused_at)[: free << self._rounds]
        with self._lock:
            for partition in offered:
                del self._refused_at[partition]
        self._rounds += bool(offered)
        return offered
