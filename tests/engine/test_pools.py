"""Missing commands topics of pools are looked for with increasing intervals."""

import asyncio
from typing import cast

from hub.engine.pools import LOOK_SECONDS, PoolWatch
from hub.engine.ports import EngineBroker
from tests.virtual_time import run


class Pools:
    """A broker with these pools."""

    def __init__(self, *pools: str) -> None:
        self.found = pools

    async def pools(self) -> tuple[str, ...]:
        """See `EngineBroker`."""
        return self.found


def test_a_pool_is_looked_for_at_once_and_then_less_and_less_often() -> None:
    async def main() -> None:
        broker = Pools("default")
        watch = PoolWatch(cast(EngineBroker, broker))
        assert not watch.is_due, "no pool is missing"
        pauses: list[float] = []
        for _ in range(8):
            watch.want(["gpu"])
            assert watch.is_due
            began = asyncio.get_running_loop().time()
            assert await watch.look() == (frozenset({"default"}), False)
            assert not watch.is_due
            watch.want(["gpu"])
            while not watch.is_due:
                await asyncio.sleep(0.25)
            pauses.append(asyncio.get_running_loop().time() - began)
        shortest, longest = LOOK_SECONDS
        assert pauses == [shortest, 2.0, 4.0, 8.0, 16.0, longest, longest, longest]
        broker.found = ("default", "gpu")
        assert await watch.look() == (frozenset({"default", "gpu"}), True)
        assert not watch.is_due
        watch.want(["tpu"])
        assert watch.is_due, "after a find the next missing pool is looked for at once"

    run(main())


def test_a_find_of_other_pools_is_not_one_of_a_wanted_pool() -> None:
    async def main() -> None:
        watch = PoolWatch(cast(EngineBroker, Pools("default")))
        assert await watch.look() == (frozenset({"default"}), False)
        watch.want(["default", "gpu"])
        assert await watch.look() == (frozenset({"default"}), True)

    run(main())
