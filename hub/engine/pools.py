"""Pools that workers named and whose commands topic the engine has not seen: it is looked for again, ever less often."""

import asyncio
from collections.abc import Iterable

from .ports import EngineBroker

#: Between looks for the commands topic of a pool that a worker named and that does not exist (seconds): first, and at most.
LOOK_SECONDS = (1.0, 30.0)


class PoolWatch:
    """See the module."""

    def __init__(self, broker: EngineBroker) -> None:
        self._broker = broker
        self._wanted: set[str] = set()
        self._due = self._pause = 0.0

    def want(self, pools: Iterable[str]) -> None:
        """Workers of these pools are there, and their topics are not known."""
        self._wanted.update(pools)

    @property
    def is_due(self) -> bool:
        """Whether to `look` now."""
        return bool(self._wanted) and asyncio.get_running_loop().time() >= self._due

    async def look(self) -> tuple[frozenset[str], bool]:
        """The pools that have a topic now, and whether one that was wanted is among them. The pauses between looks grow while
        one is missing."""
        now = asyncio.get_running_loop().time()
        wanted, pools = self._wanted, frozenset(await self._broker.pools())
        self._wanted = set()
        self._pause = min(max(LOOK_SECONDS[0], 2 * self._pause), LOOK_SECONDS[1]) if wanted - pools else 0.0
        self._due = now + self._pause
        return pools, bool(wanted & pools)
