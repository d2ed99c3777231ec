"""One timer for many deadlines. In virtual time."""

import asyncio
import math

from hub.kafka.deadlines import DeadlineTimer
from tests import virtual_time


def test_each_deadline_is_noticed_in_time_and_met_ones_cost_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiting: set[float] = set()
        late: list[tuple[float, float]] = []
        calls = 0

        def on_due(now: float) -> float:
            nonlocal calls
            calls += 1
            late.extend((deadline, now) for deadline in sorted(waiting) if deadline <= now)
            waiting.difference_update([deadline for deadline, _ in late])
            return min(waiting, default=math.inf)

        timer = DeadlineTimer(on_due)
        began = loop.time()
        for seconds in (30.0, 10.0, 20.0):
            waiting.add(began + seconds)
            timer.add(began + seconds)
        for number in range(100):  # these are met
            timer.add(began + 11.0 + number)
        await asyncio.sleep(60.0)
        assert late == [(began + seconds, began + seconds) for seconds in (10.0, 20.0, 30.0)]
        assert calls == 3

        waiting.add(loop.time() + 1.0)
        timer.add(loop.time() + 1.0)
        timer.cancel()
        await asyncio.sleep(5.0)
        assert calls == 3
        waiting = {loop.time() + 2.0}
        timer.add(loop.time() + 2.0)
        await asyncio.sleep(2.0)
        assert calls == 4, "it can be used again"

    virtual_time.run(main())
