"""What lies between a process and the broker: it takes time, can be slow or cut; what is not acknowledged is sent again."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hub.broker import BrokerError
from hub.kafka import BrokerUnreachable, Record, StoredRecord, build_batch, read_batches
from hub.kafka.sender import Outgoing
from hub.protocol import ErrorCode

from .broker import end_of
from .loop import Call, Process

if TYPE_CHECKING:
    from .world import World

#: What is not acknowledged after this time is sent again (seconds).
AGAIN_SECONDS = 1.0

#: A message takes so long (seconds): at least, and on average more.
DELAY_SECONDS = (0.0005, 0.002)

SEND_SECONDS = 60.0
FETCH_BYTES = 1 << 20


class Weather:
    """How the whole network behaves: `late`, `repeated` and `unacknowledged` are shares of all messages."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is wrong."""
        self.late = self.repeated = self.unacknowledged = 0.0


def _nothing() -> None:
    """What follows when nobody asks."""


class Link:
    """Messages of one process, as its producer sends them: those for one partition in order, unless something goes wrong."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._arrives: dict[tuple[str, int], float] = {}
        self.cut_until = 0.0
        self.on_its_way = 0
        """Messages that are not known to be stored."""
        self.copies = 0
        """Copies of messages that have not arrived, also of those that are known to be stored."""

    def send(self, outgoing: Outgoing, on_stored: Callable[[], object] = _nothing) -> "_Sent":
        """`on_stored` is called, in the sender's process, when it is stored and that is known."""
        self.on_its_way += 1
        sent = _Sent(outgoing, on_stored)
        self._depart(sent)
        return sent

    def give_up(self, sent: "_Sent") -> None:
        """Do not send it again; it may have been stored, or may still be."""
        if not sent.known:
            sent.known = True
            self.on_its_way -= 1
            if sent.again is not None:
                sent.again.cancel()

    def _depart(self, sent: "_Sent") -> None:
        if sent.known or self._process.dead:
            return
        world, loop = self._world, self._world.loop
        place = sent.outgoing.topic, sent.outgoing.partition
        at = max(self._arrives.get(place, 0.0), loop.time() + delay(world))
        if world.chance.random() < world.weather.late:
            at += world.chance.uniform(0.2, 6.0)  # and is overtaken
        else:
            self._arrives[place] = at
        self.copies += 1
        world.outside.later(at - loop.time(), self._arrive, sent)
        sent.again = self._process.later(at - loop.time() + AGAIN_SECONDS, self._depart, sent)

    def _arrive(self, sent: "_Sent") -> None:
        self.copies -= 1
        world = self._world
        local = world.broker.local
        if local is None or world.loop.time() < self.cut_until:
            return
        topic, partition, key, value, headers = sent.outgoing
        batch = build_batch([Record(key, value, headers, world.now_us() // 1000)])
        try:
            for _ in range(2 if world.chance.random() < world.weather.repeated else 1):
                local.append_soon(topic, partition, batch)
        except BrokerError as refused:
            if refused.code is not ErrorCode.KAFKA_STORAGE_ERROR:  # It would be refused again.
                self.give_up(sent)
            return
        world.broker.when_stable(partial(self._acknowledge, sent))

    def _acknowledge(self, sent: "_Sent") -> None:
        world = self._world
        if world.chance.random() >= world.weather.unacknowledged:
            self._process.later(delay(world), self._known, sent)

    def _known(self, sent: "_Sent") -> None:
        if not sent.known:
            self.give_up(sent)
            sent.on_stored()


class _Sent:
    __slots__ = ("again", "known", "on_stored", "outgoing")

    def __init__(self, outgoing: Outgoing, on_stored: Callable[[], object]) -> None:
        self.outgoing = outgoing
        self.on_stored = on_stored
        self.known = False
        self.again: Call | None = None


def delay(world: "World") -> float:
    """How long a message takes (seconds)."""
    return DELAY_SECONDS[0] + world.chance.expovariate(1 / DELAY_SECONDS[1])


def _settle(answer: "asyncio.Future[bool]", value: bool) -> None:
    if not answer.done():
        answer.set_result(value)


class LinkReports:
    """A worker's `Reports` over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def start(self) -> None:
        """See Reports."""

    async def send(self, outgoing: Outgoing, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """See Reports. Raises BrokerUnreachable."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[bool] = loop.create_future()
        sent = self._link.send(outgoing, partial(_settle, stored, True))
        late = loop.call_later(timeout_seconds, _settle, stored, False)
        if not await stored:
            self._link.give_up(sent)
            raise BrokerUnreachable("the simulated broker", "no answer")
        late.cancel()

    async def post(self, outgoing: Outgoing, on_settled: Callable[[], object] = _nothing) -> None:
        """See Reports."""
        self._link.send(outgoing, on_settled)

    async def flush(self, *, timeout_seconds: float) -> bool:
        """See Reports."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._link.on_its_way and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return not self._link.on_its_way

    async def watch(self) -> None:
        """See Reports."""

    async def stop(self) -> None:
        """See Reports."""


class Reader:
    """Reads one partition from its end on, as a committed reader in another process does."""

    def __init__(self, world: "World", topic: str, partition: int) -> None:
        self._world = world
        self._place = topic, partition
        self._more = asyncio.Event()
        self._known: object = None
        self.position = 0
        self.cut_until = 0.0
        world.broker.on_started.append(self._more.set)

    async def open(self) -> None:
        """Find the end."""
        self.position = (await self._world.broker.connected()).end(*self._place)

    async def read(self) -> Sequence[StoredRecord]:
        """The next records, when there are some."""
        loop = self._world.loop
        while True:
            await asyncio.sleep(delay(self._world))
            if loop.time() < self.cut_until:
                await asyncio.sleep(self.cut_until - loop.time())
            local = await self._world.broker.connected()
            self._more.clear()
            if self._known is not local:
                self._world.broker.watch(*self._place, self._more.set)
                self._known = local
            self.position = min(self.position, local.end(*self._place))  # A machine that failed may have lost the end.
            fetched = local.fetch(*self._place, self.position, max_bytes=FETCH_BYTES)
            if fetched.data and self.position < fetched.end:
                records = read_batches(fetched.data, aborted=fetched.aborted)
                begin, self.position = self.position, end_of(fetched.data)
                return [record for record in records if record.offset >= begin]
            await self._more.wait()
