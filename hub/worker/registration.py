"""What a worker has registered, and which engine partitions are still to be given it. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import Definition


class Registration(NamedTuple):
    """All definitions of a registry. `revision` grows with each change."""

    revision: int
    definitions: Sequence[Definition]


class Registered:
    """The registration that reports speak of. Reports name its revision; the definitions follow where they are asked for."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._wanted: set[int] = set()

    @property
    def revision(self) -> int:
        """The revision that reports name."""
        return self._registration.revision

    def change(self, registration: Registration) -> None:
        """From now on reports speak of this one."""
        self._registration = registration

    def want(self, partition: int) -> None:
        """An engine partition does not know the definitions."""
        self._wanted.add(partition)

    def take(self, partition: int, *, always: bool) -> list[Definition] | None:
        """The definitions for a report that is made now; None where the partition does not want them."""
        if not always and partition not in self._wanted:
            return None
        self._wanted.discard(partition)
        return list(self._registration.definitions)
