"""The tasks of the demo with spans of their own, as an application that uses OpenTelemetry has them, for `picture.py`."""

import asyncio
from typing import Any

from opentelemetry import trace

from hub import TaskContext, TaskRegistry
from hub.demo import app

tasks = TaskRegistry()
_tracer = trace.get_tracer("shop")


@tasks.task("reserve-stock")
async def reserve_stock(order: int, items: list[str]) -> dict[str, Any]:
    """A query of a database."""
    with _tracer.start_as_current_span("UPDATE stock", kind=trace.SpanKind.CLIENT):
        return await app.reserve_stock(order, items)


@tasks.task("charge-card")
async def charge_card(amount: str, ctx: TaskContext) -> dict[str, str]:
    """A request to the payment provider, which is busy at the first attempt."""
    with _tracer.start_as_current_span("POST /charges", kind=trace.SpanKind.CLIENT):
        return await app.charge_card(amount, ctx)


@tasks.task("pack-parcel")
def pack_parcel(ctx: TaskContext) -> dict[str, Any]:
    """Two steps in a thread."""
    with _tracer.start_as_current_span("pack"):
        packed = app.pack_parcel(ctx)
    with _tracer.start_as_current_span("print label"):
        return packed


@tasks.task("ship-parcel")
async def ship_parcel(carrier: str, ctx: TaskContext) -> dict[str, str]:
    """A request to the carrier."""
    with _tracer.start_as_current_span("POST /shipments", kind=trace.SpanKind.CLIENT):
        return await app.ship_parcel(carrier, ctx)


@tasks.task("confirm-order")
async def confirm_order(customer: str, ctx: TaskContext) -> str:
    """A mail."""
    with _tracer.start_as_current_span("send mail", kind=trace.SpanKind.CLIENT):
        await asyncio.sleep(0.1)
        return await app.confirm_order(customer, ctx)
