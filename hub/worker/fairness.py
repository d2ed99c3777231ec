"""Which engine partition gets a free slot. Partitions give out work on their own, and together they may give out more than there
are slots: what finds none is handed back, and its partition gets no more here until it is offered a slot again.

A partition that already works here is always faster than one that has to be offered a slot first. So a slot is reserved for a
partition that was refused for long.
"""

#: A partition that was refused for so long has the next free slot reserved for it (seconds).
STARVING_SECONDS = 1.0

#: A slot is reserved for so long (seconds): the offer and the command that follows it have to arrive. What the partition had may
#: have been run elsewhere meanwhile.
RESERVED_SECONDS = 0.5


class SlotFairness:
    """Partitions that were refused, the longest refused first. Pure: `now` is the caller's time in seconds."""

    def __init__(self) -> None:
        self._refused_at: dict[int, float] = {}
        self._reserved_for: int | None = None
        self._reserved_until = 0.0
        self._rounds = 0

    def refuse(self, partition: int, now: float) -> None:
        """Work of this partition found no slot."""
        self._refused_at.setdefault(partition, now)
        self._rounds = 0

    def is_refused(self, partition: int) -> bool:
        """Whether this partition is to give nothing more here."""
        return partition in self._refused_at

    @property
    def any_refused(self) -> bool:
        """Whether a partition was refused, and was not offered a slot since."""
        return bool(self._refused_at)

    def may_begin(self, partition: int, free: int, now: float) -> bool:
        """Whether work of this partition may have one of so many free slots."""
        if self._reserved_for is not None and now >= self._reserved_until:
            self._reserved_for = None
        return free > 1 or (free == 1 and self._reserved_for in (None, partition))

    def begin(self, partition: int) -> None:
        """Work of this partition has got a slot."""
        if partition == self._reserved_for:
            self._reserved_for = None

    def reserve(self, now: float) -> list[int]:
        """A slot becomes free: the partition that starves and gets it reserved, and is to hear of it; or none."""
        longest = next(iter(self._refused_at), None)
        if longest is None or now < self._reserved_until or now - self._refused_at[longest] < STARVING_SECONDS:
            return []
        del self._refused_at[longest]
        self._reserved_for, self._reserved_until = longest, now + RESERVED_SECONDS
        return [longest]

    def offer(self, free: int, now: float) -> list[int]:
        """So many slots are free and nothing waits for them: the partitions that are to hear of it, more of them each time while
        none comes."""
        if self._reserved_for is not None and now < self._reserved_until:
            free -= 1
        offered = list(self._refused_at)[: free << self._rounds]
        for partition in offered:
            del self._refused_at[partition]
        self._rounds += bool(offered)
        return offered
