"""`hub bench delivery`: what delivery costs, with the conditions of the measurement."""

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..client import Hub
    from .local_hub import LocalHub

WARM_UP_TASKS = 500


async def measure_delivery(local: "LocalHub", tasks: int, rounds: int) -> dict[str, Any]:
    """The figures of delivery on a hub that has a worker with the tasks of the benchmarks. Starts one delivery process.

    Raises NotReady, HubError; TimeoutError if the subscribers do not reach the end of the log."""
    from ..bench import FAILURES, measure_reading
    from ..client import Hub
    from ..kafka import EVENTS, describe_offsets

    begin = {number: offsets.end for number, offsets in (await describe_offsets(local.cluster, EVENTS)).items()}
    await local.start_delivery(FAILURES)
    async with Hub(local.cluster) as hub:
        costs = await _cost_per_task(local, hub, tasks, rounds)
    await local.children.pop().stop()
    return {
        "bench": "delivery",
        "tasks": tasks,
        "rounds": rounds,
        "us_per_task": round(statistics.median(costs), 1),
        **_with_spread(await measure_reading(local.cluster, begin, rounds), costs),
    }


def _with_spread(figures: dict[str, Any], costs: list[float]) -> dict[str, Any]:
    from ..bench import spread

    return figures | {"spread": figures["spread"] | {"us_per_task": spread(costs)}}


async def _cost_per_task(local: "LocalHub", hub: "Hub", tasks: int, rounds: int) -> list[float]:
    """CPU microseconds of the delivery process per task, with a subscriber that takes only failed tasks, while tasks run."""
    from ..bench import BENCHMARKS, FAILURES, until_settled
    from ..delivery import SubscriberConfig

    run, group = BENCHMARKS["throughput"].measure, SubscriberConfig(use=FAILURES).group
    await run(hub, min(tasks, WARM_UP_TASKS))
    costs = []
    for _ in range(rounds):
        await until_settled(local.cluster, group)
        before = local.children[-1].cpu_seconds()
        await run(hub, tasks)
        await until_settled(local.cluster, group)
        costs.append((local.children[-1].cpu_seconds() - before) / tasks * 1e6)
    return costs
