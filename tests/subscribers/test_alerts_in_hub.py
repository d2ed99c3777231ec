"""Alerts of a whole hub: tasks that fail and succeed, a destination that is away, a replayed past."""

from collections.abc import Sequence

from hub import Permanent, TaskRegistry
from hub.testing import HubInMemory
from schemas import Event
from subscribers import Meta, Unavailable, on
from subscribers.notices import AlertSettings, Notice, Notifier

tasks = TaskRegistry()


@tasks.task("charge")
async def charge(card: str) -> str:
    if card == "stolen":
        raise Permanent("declared stolen")
    return "paid"


class Board(Notifier[AlertSettings]):
    """Keeps what it was sent; `away`: how often it cannot be reached first."""

    name = "board"
    away = 0

    def __init__(self, settings: AlertSettings) -> None:
        super().__init__(settings)
        self.sent: list[Notice] = []

    @on("*")
    async def receive(self, event: Event, meta: Meta) -> None:
        await self.notify([event])

    async def send(self, notices: Sequence[Notice]) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("the board is away")
        self.sent += notices

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one.status, one.title) for one in self.sent]


FIRED, RESOLVED = ("firing", "Task charge failed: Permanent"), ("resolved", "Task charge failed: Permanent")


async def test_a_failing_task_is_told_once_and_resolved_by_the_next_success() -> None:
    async with HubInMemory(tasks) as hub:
        attached = await hub.attach(Board, settings={"task_url": "https://hub.example/tasks/{task}"})
        board = attached.instance
        assert isinstance(board, Board)
        failing = await hub.submit("charge", {"card": "stolen"})
        await hub.submit("charge", {"card": "stolen"})
        await hub.settle()
        assert board.told == [FIRED]
        assert board.sent[0].links[0].href == f"https://hub.example/tasks/{failing.id}"
        assert attached.state.keys() == ["firing/task/default/charge"]
        await hub.run("charge", {"card": "good"})
        await hub.run("charge", {"card": "good"})
        await hub.settle()
        assert board.told == [FIRED, RESOLVED]
        assert attached.state.keys() == []
        assert attached.dead_letters == []


async def test_an_alert_waits_for_its_destination_and_is_told_once() -> None:
    async with HubInMemory(tasks) as hub:
        attached = await hub.attach(Board)
        board = attached.instance
        assert isinstance(board, Board)
        board.away = 3
        await hub.submit("charge", {"card": "stolen"})
        await hub.submit("charge", {"card": "stolen"})
        await hub.settle()
        assert board.told == []
        await hub.advance(seconds=30)
        assert board.told == [FIRED]
        assert attached.dead_letters == []


async def test_events_of_long_ago_are_not_told() -> None:
    async with HubInMemory(tasks) as hub:
        await hub.submit("charge", {"card": "stolen"})
        await hub.advance(seconds=70)
        attached = await hub.attach(Board, start_from="earliest", delivery={"max_event_age": "1m"})
        board = attached.instance
        assert isinstance(board, Board)
        await hub.submit("charge", {"card": "stolen"})
        await hub.settle()
        assert [notice.started_at > hub.events[0].time for notice in board.sent] == [True]
        assert len(board.sent) == 1
