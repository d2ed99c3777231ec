"""What a worker holds of each engine partition, and how much it is willing to hold: leases and credit."""


def shares(slots: int, partitions: int) -> list[int]:
    """Credit per partition: the slots shared out, at least one each."""
    return [max(1, slots // partitions + (1 if index < slots % partitions else 0)) for index in range(partitions)]


class Holdings:
    """Leases (tokens, each until its end is stored), attempts in hand, and credit, per engine partition. Pure."""

    def __init__(self, slots: int, partitions: int) -> None:
        self._slots = slots
        self._credit = shares(slots, partitions) if partitions else []
        self._held: list[set[str]] = [set() for _ in range(partitions)]
        self._in_hand = [0] * partitions

    def accept(self, partition: int, token: str) -> None:
        """An attempt is in hand, and its lease is held."""
        self._held[partition].add(token)
        self._in_hand[partition] += 1

    def put_down(self, partition: int) -> None:
        """An attempt is over; its lease is held until `settle`."""
        self._in_hand[partition] -= 1

    def settle(self, partition: int, token: str) -> None:
        """The end of an attempt is stored, or its lease is lost: the engine need not find it among what is held."""
        self._held[partition].discard(token)

    def held(self, partition: int) -> list[str]:
        """The tokens of the leases that are held of a partition, sorted."""
        return sorted(self._held[partition])

    def credit(self, partition: int, *, hung: int, refused: bool) -> int:
        """How many attempts this partition may have here: its share, less what `hung` functions take of the slots, and no more
        than it has in hand where what it sent found no slot (`refused`)."""
        share, free = self._credit[partition], self._slots - hung
        if hung:
            share = max(1, share * free // self._slots) if free > 0 else 0
        return min(share, self._in_hand[partition]) if refused else share

    def move_credit(self, partition: int) -> int | None:
        """`partition` has work and no credit: it gets half of what lies idle at the partition with most of it. Returns that
        partition; None when none has credit to give."""
        idle = [credit - len(held) for credit, held in zip(self._credit, self._held, strict=True)]
        idle[partition] = 0
        giver = max(range(len(idle)), key=lambda other: idle[other])
        amount = min((idle[giver] + 1) // 2, self._credit[giver] - 1)
        if amount <= 0:
            return None
        self._credit[giver] -= amount
        self._credit[partition] += amount
        return giver
