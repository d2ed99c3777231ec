"""Clients: they submit, add steps, cancel, wait for outcomes and repeat themselves; strangers among them write nonsense."""

import asyncio
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import json

from hub.kafka import INTAKE, REPLIES, StoredRecord, partition_of
from hub.kafka.sender import Outgoing
from schemas import step_id

from .hostile import hostile_record
from .loop import Process
from .network import Link, Reader
from .workers import LATE_POOL, NAMES, NAMESPACE, VERSIONS

if TYPE_CHECKING:
    from .world import World

OUTCOMES = ("success", "success", "failure", "ended")
REPLY_PARTITION = 1

#: A client that waits asks again after this time without an answer (seconds).
ASK_SECONDS = 3.0

#: Mean time between two moments at which clients act (seconds), and how many actions there are at once.
PACE_SECONDS = 0.75
ACTIONS = (1, 2, 4, 6)


class Clients:
    """All clients of the hub, in one process that never ends."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.process = Process(world.loop, "clients")
        self.link = Link(world, self.process)
        self.acknowledged: list[str] = []
        self.waiting: dict[str, str] = {}
        self.answered: set[str] = set()
        self._ids = count(1)
        self._names = count(1)
        self._roots: list[str] = []
        self._keys: dict[str, list[str]] = {}
        self._tasks: list[str] = []
        self._sent: list[tuple[dict[str, Any], str]] = []
        self._hostility = world.chance.choice([0.0, 1.0, 3.0])

    @property
    def chance(self) -> Random:
        """What decides."""
        return self._world.chance

    async def live(self) -> None:
        """Act, time and again."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.0, 2 * PACE_SECONDS))
            for _ in range(self.chance.choice(ACTIONS)):
                self.act()

    def act(self) -> None:
        """One random thing."""
        actions = [
            (self.submit, 6.0),
            (self.submit_graph, 5.0),
            (self.add_step, 3.0),
            (self.add_steps, 2.0),
            (self.repeat, 2.0),
            (self.ask, 1.0),
            (self.cancel, 2.0),
            (self.cancel_step, 1.0),
            (self.deprecate, 0.3),
            (self.hostile, self._hostility),
        ]
        action = self.chance.choices([entry[0] for entry in actions], [entry[1] for entry in actions])[0]
        self._world.coverage.acts[action.__name__] += 1
        action()

    async def hear(self) -> None:
        """Read the answers; never returns."""
        reader = Reader(self._world, REPLIES, REPLY_PARTITION)
        await reader.open()
        while True:
            for record in await reader.read():
                self._take(record)

    def _take(self, record: StoredRecord) -> None:
        reply = json.decode(record.value or b"{}")
        token = (record.key or b"").decode()
        if token in self.waiting and reply["kind"] != "state":
            self.answered.add(self.waiting.pop(token))

    # Sending

    def send(self, kind: str, fields: dict[str, Any], root: str, *, reply: str | None = None, on_stored: Any = None) -> None:
        """A report to the partition of `root`, or (as plain producers do) to any."""
        partitions = self._world.partitions
        home = partition_of(root, partitions)
        partition = home if self.chance.random() < 0.9 else self.chance.randrange(partitions)
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", b"/client"),
            ("ce_id", b"%d" % next(self._ids)),
        ]
        if reply is not None:
            headers.append(("replyto", f"{REPLY_PARTITION}:{reply}".encode()))
        outgoing = Outgoing(INTAKE, partition, root.encode(), json.encode(fields), headers)
        if on_stored is None:
            self.link.send(outgoing)
        else:
            self.link.send(outgoing, on_stored)

    def _submit(self, fields: dict[str, Any], root: str) -> None:
        name = fields.get("id")
        self._sent.append((fields, root))
        stored = None if name is None else partial(self._stored, name, self._world.broker.losses)
        if name is not None and self.chance.random() < 0.4:
            self.process.start(self._wait(fields, name))
        self.send("task.created", fields, root, reply=f"r{name}", on_stored=stored)

    def _stored(self, name: str, losses: int) -> None:
        if losses == self._world.broker.losses:  # Otherwise it may have been stored before, and lost.
            self.acknowledged.append(name)

    async def _wait(self, fields: dict[str, Any], name: str) -> None:
        """Ask until there is an answer."""
        self.waiting[f"w{name}"] = name
        await asyncio.sleep(ASK_SECONDS)
        while f"w{name}" in self.waiting:
            self.send("task.await", {"id": name}, name, reply=f"w{name}")
            await asyncio.sleep(ASK_SECONDS)

    def report_lost(self, incarnation: str) -> None:
        """A supervisor of workers saw one die."""
        self._to_all("worker.lost", incarnation, {"incarnation": incarnation})

    def _to_all(self, kind: str, key: str, fields: dict[str, Any]) -> None:
        """A report to every partition."""
        for partition in range(self._world.partitions):
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_type", kind.encode()),
                ("ce_source", b"/s"),
                ("ce_id", b"%d" % next(self._ids)),
            ]
            self.link.send(Outgoing(INTAKE, partition, key.encode(), json.encode(fields), headers))

    # What they want

    def fields(self) -> dict[str, Any]:
        """A task of any kind, without an id."""
        chance = self.chance.random
        fields: dict[str, Any] = {"name": self.chance.choice(NAMES), "priority": self.chance.randrange(3)}
        if chance() < 0.2:
            fields["start_after"] = self.chance.choice([0, 0.5, 3])
        if chance() < 0.1:
            fields["not_start_after"] = self.chance.choice([1, 6])
        if chance() < 0.2:
            fields["timeouts"] = {self.chance.choice(["attempt", "total", "start"]): self.chance.choice([0.5, 3, 10])}
        if chance() < 0.4:
            fields["retry"] = self.retry()
        if chance() < 0.15:
            fields["delivery"] = self.chance.choice(["at_most_once", "at_least_once"])
        if chance() < 0.1:
            fields["args"] = {"text": "x" * 600}
        if chance() < 0.1:
            fields["version"] = self.chance.choice(VERSIONS)
        return fields

    def retry(self) -> dict[str, Any]:
        """A policy of retries."""
        return {
            "max_attempts": self.chance.randrange(1, 4),
            "backoff": [self.chance.choice([0, 0.5, 2])],
            "max_lost": self.chance.choice([0, 1, 100]),
            "timeout": self.chance.random() < 0.7,
        }

    def submit(self) -> None:
        """A single task, sometimes by a key."""
        name = f"t{next(self._names)}"
        fields = self.fields()
        if self.chance.random() < 0.2:
            fields["namespace"] = NAMESPACE
        if self.chance.random() < 0.15:
            fields["idempotency_key"] = name if self.chance.random() < 0.5 else "key"
            fields["idempotency_window"] = self.chance.choice([1.0, 600.0])
        else:
            fields["id"] = name
            self._tasks.append(name)
        self._submit(fields, str(fields.get("id", fields.get("idempotency_key"))))

    def _dependencies(self, known: list[str]) -> list[dict[str, str]]:
        before = self.chance.sample(known, self.chance.randrange(min(3, len(known)) + 1))
        return [{"task": key, "on": self.chance.choice(OUTCOMES)} for key in before]

    def submit_graph(self) -> None:
        """A workflow."""
        steps: dict[str, dict[str, Any]] = {}
        many = self.chance.random() < 0.002  # More than the engine makes in one transaction.
        for index in range(210 if many else self.chance.randrange(2, 7)):
            steps[f"n{index}"] = {**self.fields(), "depends_on": self._dependencies(list(steps))}
        root = f"w{next(self._names)}"
        self._roots.append(root)
        self._keys[root] = list(steps)
        fields: dict[str, Any] = {"name": "w", "id": root, "tasks": steps}
        if self.chance.random() < 0.1:
            fields["timeouts"] = {"total": self.chance.choice([3, 15])}
        if self.chance.random() < 0.2:
            fields["namespace"] = NAMESPACE
        self._submit(fields, root)

    def add_step(self) -> None:
        """One step for a workflow, which may have ended."""
        if self._roots:
            root, key = self.chance.choice(self._roots[-4:]), f"x{next(self._names)}"
            fields = {**self.fields(), "root_id": root, "key": key, "depends_on": self._dependencies(self._keys[root])}
            self._keys[root].append(key)
            self.send("task.created", fields, root)

    def add_steps(self) -> None:
        """Several at once, which may depend on each other."""
        if not self._roots:
            return
        root, steps = self.chance.choice(self._roots[-4:]), dict[str, dict[str, Any]]()
        for _ in range(self.chance.randrange(1, 4)):
            key = f"y{next(self._names)}"
            steps[key] = {**self.fields(), "depends_on": self._dependencies([*self._keys[root], *steps])}
        self._keys[root] += steps
        self.send("task.created", {"name": "w", "root_id": root, "tasks": steps}, root)

    def repeat(self) -> None:
        """A submission again: the same, or with the same id and something else."""
        if self._sent:
            fields, root = self.chance.choice(self._sent)
            if self.chance.random() < 0.2:
                fields = {**fields, "priority": 7}
            self.send("task.created", fields, root, reply="again")

    def _any_task(self) -> str:
        return self.chance.choice([*self._tasks[-6:], *self._roots[-3:], "nobody"])

    def ask(self) -> None:
        """How a task stands, or how it ended."""
        task = self._any_task()
        self.send("task.await", {"id": task, "wait": self.chance.random() < 0.5}, task, reply="ask")

    def cancel(self) -> None:
        """Any task or workflow."""
        task = self._any_task()
        self.send("task.cancel", {"id": task, "reason": "enough", "by": "somebody"}, task, reply="cancel")

    def cancel_step(self) -> None:
        """A step of a workflow."""
        if self._roots:
            root = self.chance.choice(self._roots[-4:])
            step = step_id(root, self.chance.choice(self._keys[root]))
            self.send("task.cancel", {"id": step, "root": root}, root)

    def deprecate(self) -> None:
        """A version that workers may have registered."""
        name, version = self.chance.choice(NAMES), self.chance.choice(VERSIONS)
        namespace = self.chance.choice([None, NAMESPACE])
        self._to_all("definition.deprecate", name, {"name": name, "version": version, "namespace": namespace})

    def hostile(self) -> None:
        """A record that no client of ours would send."""
        record = hostile_record(self.chance)
        partition = self.chance.randrange(self._world.partitions)
        headers = [(name, value) for name, value in record.headers]
        self.link.send(Outgoing(INTAKE, partition, record.key, record.value, headers))  # type: ignore[arg-type]

    def cancel_all(self, live: list[tuple[str, str]]) -> None:
        """Cancel these tasks, given with their roots."""
        for task, root in live:
            self.send("task.cancel", {"id": task, "root": root}, root)


__all__ = ["LATE_POOL", "Clients"]
