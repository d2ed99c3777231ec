"""The shortest subscriber, on a hub in memory."""

import pytest

from hub import Permanent, TaskRegistry
from hub.testing import HubInMemory, SubscriberContract

from .five_lines import report

tasks = TaskRegistry()


@tasks.task("charge")
async def charge(card: str) -> str:
    if card == "stolen":
        raise Permanent("the card is stolen")
    return "paid"


async def test_a_failed_task_is_printed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    async with HubInMemory(tasks) as hub:
        await hub.attach(report)
        await hub.submit("charge", {"card": "stolen"})
        await hub.submit("charge", {"card": "good"})
        await hub.settle()
    assert capsys.readouterr().out == "charge failed: the card is stolen\n"


class TestReport(SubscriberContract):
    """It has no destination that could be away."""

    plugin = report
    delivers = True
