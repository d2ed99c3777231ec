"""Decides which engine partition gets a free slot. Partitions dispatch independently, so together they may send more attempts
than the worker has slots. An attempt without a slot is released, and its partition sends no more until it is offered a slot.

A partition with running attempts here is always faster than one that must be offered a slot first. Therefore a slot is reserved
for a partition that has been refused for a long time.
"""

#: The next free slot is reserved for a partition that has been refused for this time (seconds).
STARVING_SECONDS = 1.0

#: Duration of a reservation (seconds), for the offer and the following command to arrive. It ends without a command if another
#: worker has run the partition's tasks meanwhile.
RESERVED_SECONDS = 0.5


class SlotFairness:
    """The refused partitions, in the order of their refusal. Pure: `now` is passed in, in seconds."""

    def __init__(self) -> None:
        self._refused_at: dict[int, float] = {}
        self._reserved_for: int | None = None
        self._reserved_until = 0.0
        self._rounds = 0

    def refuse(self, partition: int, now: float) -> None:
        """Record that an attempt of this partition found no slot."""
        self._refused_at.setdefault(partition, now)
        self._rounds = 0

    def is_refused(self, partition: int) -> bool:
        """Whether this partition must not send more attempts to this worker."""
        return partition in self._refused_at

    @property
    def any_refused(self) -> bool:
        """Whether a partition was refused, and was not offered a slot since."""
        return bool(self._refused_at)

    def may_begin(self, partition: int, free: int, now: float) -> bool:
        """Whether an attempt of this partition may take one of `free` slots."""
        if self._reserved_for is not None and now >= self._reserved_until:
            self._reserved_for = None
        return free > 1 or (free == 1 and self._reserved_for in (None, partition))

    def begin(self, partition: int) -> None:
        """Record that an attempt of this partition took a slot."""
        if partition == self._reserved_for:
            self._reserved_for = None

    def reserve(self, now: float) -> list[int]:
        """Called when a slot becomes free. Returns the starving partition for which it is reserved, to be notified; or none."""
        longest = next(iter(self._refused_at), None)
        if longest is None or now < self._reserved_until or now - self._refused_at[longest] < STARVING_SECONDS:
            return []
        del self._refused_at[longest]
        self._reserved_for, self._reserved_until = longest, now + RESERVED_SECONDS
        return [longest]

    def offer(self, free: int, now: float) -> list[int]:
        """Called when `free` slots are free, and no waiting attempt may begin. Returns the refused partitions to be notified,
        twice as many in each call until one of them is refused again."""
        if self._reserved_for is not None and now < self._reserved_until:
            free = max(free - 1, 0)
        offered = list(self._refused_at)[: free << self._rounds]
        for partition in offered:
            del self._refused_at[partition]
        self._rounds += bool(offered)
        return offered
