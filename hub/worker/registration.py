"""The registration of a worker, and the engine partitions that have requested it. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas import Definition


class Registration(NamedTuple):
    """All definitions of a registry. `revision` grows with each change."""

    revision: int
    definitions: Sequence[Definition]


class Registered:
    """The current registration. Every report has its revision; the definitions are added when a partition requests them."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._wanted: set[int] = set()

    @property
    def revision(self) -> int:
        """The revision in reports."""
        return self._registration.revision

    def change(self, registration: Registration) -> None:
        """Replace the registration."""
        self._registration = registration

    def want(self, partition: int) -> None:
        """Record that an engine partition requested the definitions."""
        self._wanted.add(partition)

    def take(self, partition: int, *, always: bool) -> list[Definition] | None:
        """The definitions for the next report to a partition; None if it has not requested them and not `always`."""
        if not always and partition not in self._wanted:
            return None
        self._wanted.discard(partition)
        return list(self._registration.definitions)
