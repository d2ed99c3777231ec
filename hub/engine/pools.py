"""Polls for the commands topics of workers' pools that do not exist yet, with increasing intervals."""

import asyncio
from collections.abc import Iterable

from .ports import EngineBroker

#: Interval of checks for a missing commands topic (seconds): first, and longest.
LOOK_SECONDS = (1.0, 30.0)


class PoolWatch:
    """The pools of workers whose commands topic is missing."""

    def __init__(self, broker: EngineBroker) -> None:
        self._broker = broker
        self._wanted: set[str] = set()
        self._due = self._pause = 0.0

    def want(self, pools: Iterable[str]) -> None:
        """Add pools that have workers but no known commands topic."""
        self._wanted.update(pools)

    @property
    def is_due(self) -> bool:
        """Whether it is time to call `look`."""
        return bool(self._wanted) and asyncio.get_running_loop().time() >= self._due

    async def look(self) -> tuple[frozenset[str], bool]:
        """Returns the pools that now have a topic, and whether a wanted one is among them. The interval increases while one is
        missing."""
        now = asyncio.get_running_loop().time()
        wanted, pools = self._wanted, frozenset(await self._broker.pools())
        self._wanted = set()
        self._pause = min(max(LOOK_SECONDS[0], 2 * self._pause), LOOK_SECONDS[1]) if wanted - pools else 0.0
        self._due = now + self._pause
        return pools, bool(wanted & pools)
