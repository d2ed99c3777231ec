"""Order fulfilment: the tasks of the demo. A worker runs them with `hub worker hub.demo.app:tasks`.

Reserves the goods, charges the card and packs the parcel in parallel, ships the parcel, and confirms the order.
"""

import asyncio
import time
from typing import Any

from ..worker import Permanent, TaskContext, TaskRegistry

tasks = TaskRegistry()

PACKING_STEPS = 8
PACKING_STEP_SECONDS = 0.25


class PaymentProviderBusy(Exception):
    """The payment provider is busy. The exception fails the attempt, and the retry policy determines the time of the next one."""


@tasks.task("reserve-stock")
async def reserve_stock(order: int, items: list[str]) -> dict[str, Any]:
    """An async handler. The arguments of the task are validated against its parameters."""
    if not items:
        raise Permanent("an order without items cannot be fulfilled")  # another attempt would not help
    await asyncio.sleep(0.3)
    return {"order": order, "warehouse": "north", "items": len(items)}


@tasks.task("charge-card")
async def charge_card(amount: str, ctx: TaskContext) -> dict[str, str]:
    """`ctx.task_id` is the same in every attempt: use it as idempotency key for the payment provider."""
    await asyncio.sleep(0.3)
    if ctx.attempt == 1:
        raise PaymentProviderBusy("the payment provider is busy")
    return {"amount": amount, "receipt": f"receipt-{ctx.task_id[:8]}"}


@tasks.task("pack-parcel")
def pack_parcel(ctx: TaskContext) -> dict[str, Any]:
    """A plain function runs in a thread. `ctx.dependencies` has the results of the steps that it depends on."""
    reserved = ctx.dependencies["reserve"]
    for step in range(1, PACKING_STEPS + 1):
        if ctx.cancelled:
            break  # stop early: the result of a cancelled attempt is not used
        time.sleep(PACKING_STEP_SECONDS)
        ctx.progress(100 * step / PACKING_STEPS, f"packed {step} of {PACKING_STEPS}")
    return {"parcel": f"P-{reserved['order']}", "from": reserved["warehouse"]}


@tasks.task("ship-parcel")
async def ship_parcel(carrier: str, ctx: TaskContext) -> dict[str, str]:
    """Runs one second after the steps that it depends on (`start_after` of the step)."""
    await asyncio.sleep(0.2)
    return {"carrier": carrier, "parcel": ctx.dependencies["pack"]["parcel"]}


@tasks.task("confirm-order")
async def confirm_order(customer: str, ctx: TaskContext) -> str:
    """The last step."""
    shipped = ctx.dependencies["ship"]
    return f"Dear {customer}, your parcel {shipped['parcel']} is on its way with {shipped['carrier']}."
