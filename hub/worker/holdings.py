"""What a worker has in hand of each engine partition, and what it offers: shared by its event loop and its heartbeat thread."""

import threading

from .settings import shares


class Holdings:
    """Leases (`held`: tokens, each until its end is stored), attempts in hand and credit, per engine partition. From any thread:
    everything happens under one lock, and nothing waits while it is held."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._credit: list[int] = []
        self._held: list[set[str]] = []
        self._in_hand: list[int] = []

    def open(self, partitions: int) -> None:
        """Begin with nothing in hand, in a hub of so many engine partitions."""
        with self._lock:
            self._credit = shares(self._slots, partitions)
            self._held = [set() for _ in range(partitions)]
            self._in_hand = [0] * partitions

    def accept(self, partition: int, token: str) -> None:
        """An attempt is in hand, and its lease is held."""
        with self._lock:
            self._held[partition].add(token)
            self._in_hand[partition] += 1

    def put_down(self, partition: int) -> None:
        """An attempt is over; its lease is held until `settle`."""
        with self._lock:
            self._in_hand[partition] -= 1

    def settle(self, partition: int, token: str) -> None:
        """The end of an attempt is stored, or its lease is lost: the engine need not find it among what is held."""
        with self._lock:
            self._held[partition].discard(token)

    def held(self, partition: int) -> list[str]:
        """The tokens of the leases that are held of a partition, sorted."""
        with self._lock:
            return sorted(self._held[partition])

    def credit(self, partition: int, *, hung: int, refused: bool) -> int:
        """How many attempts this partition may have here: its share, less what `hung` functions take of the slots, and no more
        than it has in hand where what it sent found no slot (`refused`)."""
        with self._lock:
            share, free = self._credit[partition], self._slots - hung
            if hung:
                share = max(1, share * free // self._slots) if free > 0 else 0
            return min(share, self._in_hand[partition]) if refused else share

    def move_credit(self, partition: int) -> int | None:
        """`partition` has work and no credit: it gets half of what lies idle at the partition with most of it. That partition;
        None when none has credit to give."""
        with self._lock:
            idle = [credit - len(held) for credit, held in zip(self._credit, self._held, strict=True)]
            idle[partition] = 0
            giver = max(range(len(idle)), key=lambda other: idle[other])
            amount = min((idle[giver] + 1) // 2, self._credit[giver] - 1)
            if amount <= 0:
                return None
            self._credit[giver] -= amount
            self._credit[partition] += amount
            return giver
