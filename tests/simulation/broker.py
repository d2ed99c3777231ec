"""The broker's process: its real core on a disk that can be slow, full or lost, behind the door for code inside the process."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from hub.broker import Broker, LocalBroker
from hub.broker.batches import read_header
from hub.broker.pending import PendingBlock
from hub.broker.storage import CheckpointPlan
from hub.kafka import REPLIES
from hub.kafka.topics import COMMANDS_PREFIX, TopicSpec, hub_topics
from hub.protocol.batch_layout import whole_batches

from .disk import Disk
from .loop import Process

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

#: What nobody waits for may stay unwritten so long (seconds), as in the broker's own flushing.
LAZY_SECONDS = 0.005
CHECKPOINT_SECONDS = 0.3

#: How long a sync takes on average, where the disk is not slow (seconds).
SYNC_SECONDS = 0.002

#: Partitions of each commands topic and of the topic of replies: fewer than in a real hub, so that several workers share one.
INBOXES = 3
REPLY_PARTITIONS = 2

Visible = dict[tuple[str, int], tuple[int, bytes]]
"""By topic and partition: from which offset on, and the bytes of every batch that readers may have seen."""


class BrokerClock:
    """The broker's two clocks; the wall clock may have been set anywhere."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.ahead_ms = 0

    def monotonic(self) -> float:
        """See Clock."""
        return self._world.loop.time()

    def now_ms(self) -> int:
        """See Clock."""
        return self._world.now_us() // 1000 + self.ahead_ms


class BrokerProcess:
    """See the module. `local` is None while it is down."""

    def __init__(self, world: "World") -> None:
        self._world = world
        chance = world.chance
        self.flush_seconds = chance.choice([0.5, 2.0]) if chance.random() < 0.2 else None
        """How often what was written is synced; None: every block is, before anybody sees it."""
        self.losses = 0
        """How often something may have been lost that was acknowledged."""
        self.disk = Disk(syncs_every_block=self.flush_seconds is None)
        self.clock = BrokerClock(world)
        self.sync_seconds = SYNC_SECONDS
        self.process = Process(world.loop, "broker")
        self.local: LocalBroker | None = None
        self.on_started: list[Callable[[], None]] = []
        self.seen: Visible = {}
        self._core: Broker
        self._busy = self._scheduled = self._checkpointing = False

    # Lifecycle

    def start(self) -> None:
        """Recover what the disk holds and open the door; whoever wants to hear of it does."""
        self.process = Process(self._world.loop, "broker")
        self._core = Broker(self.disk, clock=self.clock)
        self._busy = self._scheduled = self._checkpointing = False
        self._core.recover()
        self._core.state.pending.on_flush_needed = self._flush_needed
        self._core.timers.on_earlier = lambda deadline: self._run_timers(deadline)
        self.local = LocalBroker(self._core)
        self._flush_needed(True)
        self._sync()
        for started in self.on_started:
            started()

    def crash(self, *, torn: bool) -> None:
        """Everything in memory is lost, and what was under way to the disk perhaps."""
        self.look()
        self.process.kill()
        self.disk.crash(torn=torn)
        self.local = None

    def lose_power(self) -> None:
        """The machine fails; what readers had seen may be gone."""
        self.process.kill()
        self.disk.lose_power()
        self.local = None
        self.losses += 1
        self.seen = {}

    async def make_hub(self, partitions: int) -> None:
        """Create the hub's topics, long before anything goes wrong."""
        for spec in hub_topics(partitions):
            await self.create(spec)
        self.disk.sync()

    async def create(self, spec: TopicSpec) -> None:
        """Create a topic unless it is there; returns when it is on disk, however often the broker ends meanwhile."""
        partitions = partitions_of(spec)
        while True:
            local = await self.connected()
            made = self.process.start(local.create_topic(spec.name, partitions, spec.config, exist_ok=True))
            done, _ = await asyncio.wait([made], timeout=1.0)
            if done and made.exception() is None:
                return
            await asyncio.sleep(0.1)

    async def connected(self) -> LocalBroker:
        """The door, as soon as the broker is up."""
        while self.local is None:
            await asyncio.sleep(0.05)
        return self.local

    def when_stable(self, call: Callable[[], object]) -> None:
        """Call it when all that was appended so far is on disk; never, if the broker ends before. It is the broker's process:
        what it begins, it begins in another one."""

        def stable(_: object) -> None:
            call()

        self._core.state.when_stable(None).then(stable)

    def apply(self, request: Callable[[Broker], T]) -> T:
        """What the core answers, now."""
        return request(self._core)

    def watch(self, topic: str, partition: int, call: Callable[[], None]) -> None:
        """Call it whenever readers may see more of a partition, or the broker is up again."""
        log = self._core.state.log(topic, partition)
        assert log is not None
        log.waiters[call] = None

    # What readers have seen

    def look(self) -> None:
        """Note what readers may have seen by now: it must stay there."""
        if self.local is None:
            return
        for topic, partitions in self.local.topics().items():
            for partition in range(partitions):
                self._look_at(self.local, topic, partition)

    def _look_at(self, local: LocalBroker, topic: str, partition: int) -> None:
        before_start, before = self.seen.get((topic, partition), (-1, b""))
        at_end = local.fetch(topic, partition, local.end(topic, partition), max_bytes=1)
        if at_end.end > at_end.log_start:
            whole = batches_between(local, topic, partition, at_end.log_start, at_end.end)
            if before_start == at_end.log_start:
                assert whole.startswith(before), f"{topic}-{partition}: what readers had seen is gone, or another"
            self.seen[topic, partition] = at_end.log_start, whole

    # Durability

    def _flush_needed(self, urgent: bool) -> None:
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self.process.later(0.0 if urgent else LAZY_SECONDS, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        block = self._core.cut()
        due = self.disk.checkpoint_due and not self._checkpointing
        plan = self._core.plan_checkpoint(clean=False) if due else None
        if plan is None and not block.parts:  # Somebody waits for what is on disk already.
            self._core.written(block)
            return
        self._busy = True
        self.disk.begin(block.parts)
        seconds = 0.0 if self.flush_seconds is not None else self._world.chance.expovariate(1 / self.sync_seconds)
        self.process.later(seconds, self._written, block, plan)

    def _sync(self) -> None:
        if self.flush_seconds is not None:
            self.disk.sync()
            self.process.later(self.flush_seconds, self._sync)

    def _written(self, block: PendingBlock, plan: CheckpointPlan | None) -> None:
        self.disk.complete()
        self._busy = False
        if plan is not None:
            self._checkpointing = True
            self.process.later(CHECKPOINT_SECONDS, self._checkpointed, plan, self.disk.begin_checkpoint())
        self._core.written(block)
        if self._core.state.pending.is_due:
            self._flush_needed(True)

    def _checkpointed(self, plan: CheckpointPlan, position: int) -> None:
        self.disk.checkpoint(plan, position)
        self._core.checkpointed(plan)
        self._checkpointing = False

    def _run_timers(self, deadline: float) -> None:
        self.process.later(max(0.0, deadline - self._world.loop.time()), self._due)

    def _due(self) -> None:
        self._core.timers.run_due()
        if (deadline := self._core.timers.next_deadline) is not None:
            self._run_timers(deadline)


def partitions_of(spec: TopicSpec) -> int:
    """How many partitions a topic has here."""
    if spec.name.startswith(COMMANDS_PREFIX):
        return INBOXES
    return REPLY_PARTITIONS if spec.name == REPLIES else spec.partitions


def batches_between(local: LocalBroker, topic: str, partition: int, start: int, end: int) -> bytes:
    """The batches that committed readers see from `start` on, up to `end`."""
    parts = []
    while start < end:
        data = local.fetch(topic, partition, start, max_bytes=1 << 30).data
        if not data:
            break
        parts.append(data)
        start = end_of(data)
    return b"".join(parts)


def end_of(data: bytes) -> int:
    """The offset after the last of some whole batches."""
    *_, (_, last, _) = whole_batches(data)
    return read_header(data, last).last_offset + 1
