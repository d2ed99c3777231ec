"""Tasks, subscribers and a producer of a hub whose dashboards are to be looked at: something happens in every panel.

`python -m tests.dashboards.render` uses it; it is the shape of the load that matters, not its amount.
"""

import asyncio
import itertools
import random
from typing import Any

from hub import Hub, Permanent, RetryLater, TaskContext, TaskRegistry
from hub.demo import order_submission
from schemas import Event
from subscribers import Delivery, Redelivery, Unavailable, subscriber

tasks = TaskRegistry()

NAME = "tests.dashboards.traffic"
QUEUES = ["default", "payments", "mail", "reports", "imports"]
_chance = random.Random(1)


class BankBusy(Exception):
    """The bank is busy."""


@tasks.task("charge", queue="payments", retry={"max_attempts": 3, "backoff": [0.5, 2]})
async def charge(ctx: TaskContext) -> str:
    """One attempt in eight fails, and one task in a hundred for good."""
    await asyncio.sleep(_chance.lognormvariate(-3, 0.7))
    if ctx.attempt == 1 and _chance.random() < 0.12:
        raise BankBusy("the bank is busy")
    if _chance.random() < 0.01:
        raise Permanent("the card is blocked")
    return "paid"


@tasks.task("send-mail", queue="mail", retry={"max_attempts": 2})
async def send_mail(ctx: TaskContext) -> None:
    """Quick; sometimes to be sent later."""
    await asyncio.sleep(0.01)
    if ctx.attempt == 1 and _chance.random() < 0.05:
        raise RetryLater("greylisted", after=5)


@tasks.task("make-report", queue="reports", timeout_seconds=3, retry={"max_attempts": 2, "backoff": [1]})
async def make_report() -> None:
    """Slow, and some attempts exceed their timeout."""
    await asyncio.sleep(_chance.lognormvariate(0, 0.8))


@tasks.task("import-file", namespace="warehouse", queue="imports")
def import_file(rows: int) -> int:
    """A plain function, which fails for some files."""
    if rows % 17 == 0:
        raise ValueError(f"row {rows}: 4 columns expected")
    return rows


@tasks.task("wait-for-approval")
async def wait_for_approval() -> None:
    """Runs until it is cancelled or its total timeout ends it."""
    await asyncio.sleep(600)


@subscriber("task.failed", "task.completed", name="invoices", delivery=Delivery(concurrency=8))
async def invoices(event: Event) -> None:
    """Takes what it gets."""
    await asyncio.sleep(0.002)


@subscriber("task.failed", name="broken", delivery=Delivery(retry=Redelivery(timeout=2, initial=0.2)))
async def broken(event: Event) -> None:
    """Fails at every second event, which is dead-lettered after two seconds."""
    if hash(event.subject) % 2:
        raise ValueError("no such customer")


@subscriber("task.completed", name="warehouse")
async def away(event: Event) -> None:
    """Its destination is away now and then."""
    if int(asyncio.get_running_loop().time()) % 120 < 45:
        raise Unavailable("the warehouse does not respond")


RULES = """
[[rules]]
name = "reports-fail"
kind = "threshold"
match = { type = "task.failed" }
window = "1m"
at_least = 3
"""


def configuration() -> str:
    """The settings of the hub, as TOML."""
    mine = "".join(
        f'[[subscribers]]\nuse = "{NAME}:{name}"\nid = "{title}"\nstart_from = "earliest"\n'
        for name, title in (("invoices", "invoices"), ("broken", "broken"), ("away", "warehouse"))
    )
    return f"queue = {QUEUES}\n[metrics]\nenabled = true\n{RULES}{mine}"


async def produce(hub: Hub, seconds: float) -> None:
    """Submit tasks for so many seconds, in waves."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.TaskGroup() as cancelling:
        for number in itertools.count():
            passed = loop.time() - begin
            if passed >= seconds:
                break
            await hub.submit_many(_second(number, 1.8 if int(passed) // 60 % 2 else 1.0), reply=False)
            if number % 15 == 0:
                cancelling.create_task(_cancelled(hub, f"approval-{number}"))
            await asyncio.sleep(max(0.0, begin + number + 1 - loop.time()))


def _second(number: int, wave: float) -> list[dict[str, Any]]:
    """The submissions of one second."""
    found: list[dict[str, Any]] = [{"name": "charge"} for _ in range(round(12 * wave))]
    found += [{"name": "send-mail", "priority": 5} for _ in range(round(20 * wave))]
    found += [{"name": "make-report"} for _ in range(round(3 * wave))]
    found += [{"name": "import-file", "args": {"rows": number * 2 + one}, "namespace": "warehouse"} for one in range(2)]
    if number % 4 == 0:
        found.append({"name": "send-mail", "start_after": 10})
        found.append({"name": "send-mail", "idempotency_key": f"newsletter-{number // 8}"})
    if number % 5 == 0:
        found.append(order_submission(f"order-{number}", number))
    if number % 10 == 0:
        found.append({"name": "wait-for-approval", "timeouts": {"total": 20}})
        found.append({"name": "nobody-has-this", "timeouts": {"start": 15}})
        found.append({"name": "charge", "version": "9"})
    return found


async def _cancelled(hub: Hub, task: str) -> None:
    """A task that is cancelled while it runs."""
    handle = await hub.submit("wait-for-approval", id=task, reply=False)
    await asyncio.sleep(2)
    await handle.cancel(reason="not needed")
