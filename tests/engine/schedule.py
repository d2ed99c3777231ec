"""One seed's hub and what happens to it: one or two engine partitions over the same topics, workers that come late, drain, die,
lie and repeat themselves, clients that add and cancel, strangers that write nonsense, crashes that lose a batch."""

import random
from collections import Counter
from typing import Any

import msgspec

from hub.kafka import partition_of
from hub.verify import Execution, VerificationReport
from schemas import ExecuteAttempt, step_id
from tests.engine.harness import SECOND, World
from tests.engine.topics import Topics
from tests.simulation.hostile import hostile_record

STEPS = 80
HEALING_ROUNDS_MAX = 300

NAMES = ("a", "b", "c")
LATE_POOL = "late"  # Its topic is made in the middle of a schedule; only its workers know the name "c".
OUTCOMES = ("success", "success", "failure", "ended")


class Running(msgspec.Struct):
    """An attempt that a worker has in hand. `number`: its last report; `granted`: whether an at-most-once body may run;
    `cancelled`: whether it was asked to stop."""

    command: ExecuteAttempt
    worker: str
    number: int = 0
    granted: bool = False
    cancelled: bool = False


class Schedule:
    """What may happen, in random order. `seed` decides everything; `counts` says how often what happened."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        partitions = self.random.choice([1, 1, 2])
        self.topics = Topics(partitions)
        self.worlds = [World(partition=number, partitions=partitions, topics=self.topics) for number in range(partitions)]
        self.eagerness = self.random.choice([0.2, 0.7, 1.0])  # how soon what was said is decided
        self.hostility = self.random.choice([0, 1, 3])
        self.counts: Counter[str] = Counter()
        self.running: list[Running] = []
        self.executions: list[Execution] = []
        self.alive: dict[str, dict[str, Any]] = {}
        self.names = 0
        self.roots: list[str] = []
        self.keys: dict[str, list[str]] = {}
        self.submitted: list[dict[str, object]] = []

    # What happens

    def one(self) -> None:
        """One random thing, and perhaps a changes of an engine after it."""
        actions = [
            (self.submit, 6),
            (self.submit_graph, 3),
            (self.add_step, 3),
            (self.add_steps, 2),
            (self.resubmit, 1),
            (self.ask, 1),
            (self.cancel, 1),
            (self.cancel_step, 1),
            (self.worker_joins, 2),
            (self.worker_beats, 4),
            (self.worker_drains, 1),
            (self.worker_dies, 1),
            (self.worker_reports, 12),
            (self.pool_appears, 1),
            (self.hostile, self.hostility),
        ]
        action = self.random.choices([entry[0] for entry in actions], [entry[1] for entry in actions])[0]
        self.counts[action.__name__] += 1
        action()
        if self.random.random() < self.eagerness:
            self.changes(self.random.choice(self.worlds))

    def changes(self, world: World) -> None:
        """An engine decides some of its intake; now and then it dies before the commit, or was itself stopped for a while."""
        seconds = self.random.choice([0, 0, 0, 0.01, 0.5, 3, 12])
        if self.random.random() < 0.02:
            world.now_us += 60 * SECOND
            world.engine.extend_deadlines(60 * SECOND)
        if self.random.random() < 0.08:
            self.counts["crash"] += 1
            self.step(world, seconds=seconds, limit=self.random.randrange(1, 5), commit=False)
            world.crash()
        elif self.random.random() < 0.02:
            world.hand_over()
        else:
            limit = self.random.choice([1, 3, 8, 40])
            self.step(world, seconds=seconds, limit=limit, caught_up=self.random.random() < 0.8)
        self.collect(world)

    def step(self, world: World, **how: Any) -> None:
        """As the loop does it: pools that workers named are looked up."""
        world.step(**how)
        if world.unknown_pools:
            world.known_pools, world.unknown_pools = set(world.pools), set()

    def collect(self, world: World) -> None:
        """Workers read their inboxes."""
        for kind, worker, data in world.commands:
            if kind == "attempt.execute":
                self.running.append(Running(data, worker))
            elif kind in ("attempt.grant", "attempt.cancel"):
                token = msgspec.json.decode(data)["token"]
                for entry in [entry for entry in self.running if entry.command.token == token]:
                    if kind == "attempt.cancel":
                        entry.cancelled = True
                    elif not entry.granted:
                        entry.number, entry.granted = max(entry.number, 1), True
                        self.executions.append(Execution(entry.command.task, entry.command.attempt))
        world.commands.clear()

    # Clients

    def put(self, kind: str, value: Any, root: str, *, replyto: bytes | None = None) -> None:
        """A client sends a report to the partition of `root`, or (as plain producers do) to any."""
        home = partition_of(root, len(self.worlds))
        world = self.worlds[home] if self.random.random() < 0.9 else self.random.choice(self.worlds)
        if replyto is None:
            world.put(kind, value)
        else:
            world.put(kind, value, replyto=replyto)

    def fields(self) -> dict[str, object]:
        chance = self.random.random
        self.names += 1
        fields: dict[str, object] = {"name": self.random.choice(NAMES), "id": f"t{self.names}"}
        if chance() < 0.2:
            fields["start_after"] = self.random.choice([0, 1, 20])
        if chance() < 0.1:
            fields["not_start_after"] = self.random.choice([1, 40])
        if chance() < 0.2:
            fields["timeouts"] = {self.random.choice(["attempt", "total", "start"]): self.random.choice([1, 30])}
        if chance() < 0.3:
            fields["retry"] = self.retry()
        if chance() < 0.15:
            fields["delivery"] = self.random.choice(["at_most_once", "at_least_once"])
        if chance() < 0.1:
            fields["args"] = {"text": "x" * 600}
        fields["priority"] = self.random.randrange(3)
        return fields

    def retry(self) -> dict[str, object]:
        return {
            "max_attempts": self.random.randrange(1, 4),
            "backoff": [self.random.choice([0, 2])],
            "max_lost": self.random.choice([0, 1, 100]),
            "timeout": self.random.random() < 0.7,
        }

    def submit(self) -> None:
        fields = self.fields()
        if self.random.random() < 0.1:
            fields["idempotency_key"] = fields.pop("id")
        else:
            self.submitted.append(fields)
        name = str(fields.get("id", "key"))
        self.put("task.created", fields, name, replyto=b"1:" + name.encode())

    def step_fields(self) -> dict[str, object]:
        fields = self.fields()
        del fields["id"]
        return fields

    def dependencies(self, known: list[str]) -> list[dict[str, str]]:
        before = self.random.sample(known, self.random.randrange(min(3, len(known)) + 1))
        return [{"task": key, "on": self.random.choice(OUTCOMES)} for key in before]

    def submit_graph(self) -> None:
        steps: dict[str, dict[str, object]] = {}
        many = self.random.random() < 0.01  # More than the engine makes in one transaction.
        for index in range(210 if many else self.random.randrange(1, 7)):
            steps[f"n{index}"] = {**self.step_fields(), "depends_on": self.dependencies(list(steps))}
        self.names += 1
        root = f"w{self.names}"
        self.roots.append(root)
        self.keys[root] = list(steps)
        fields: dict[str, object] = {"name": "w", "id": root, "tasks": steps}
        if self.random.random() < 0.1:
            fields["timeouts"] = {"total": self.random.choice([5, 60])}
        self.submitted.append(fields)
        self.put("task.created", fields, root, replyto=b"1:" + root.encode())

    def add_step(self) -> None:
        if self.roots:
            self.names += 1
            root, key = self.random.choice(self.roots), f"x{self.names}"
            fields = {**self.step_fields(), "root_id": root, "key": key, "depends_on": self.dependencies(self.keys[root])}
            self.keys[root].append(key)
            self.put("task.created", fields, root)

    def add_steps(self) -> None:
        """Several at once, which may depend on each other."""
        if not self.roots:
            return
        root, steps = self.random.choice(self.roots), dict[str, dict[str, object]]()
        for _ in range(self.random.randrange(1, 4)):
            self.names += 1
            steps[f"y{self.names}"] = {**self.step_fields(), "depends_on": self.dependencies([*self.keys[root], *steps])}
        self.keys[root] += steps
        self.put("task.created", {"name": "w", "root_id": root, "tasks": steps}, root)

    def resubmit(self) -> None:
        if self.submitted:
            fields = self.random.choice(self.submitted)
            self.put("task.created", fields, str(fields["id"]))

    def ask(self) -> None:
        if self.names:
            task = f"{self.random.choice('tw')}{self.random.randrange(self.names) + 1}"
            self.put("task.await", {"id": task, "wait": self.random.random() < 0.5}, task, replyto=b"2:ask")

    def cancel(self) -> None:
        """Whatever runs, or any task there may be."""
        if self.running and self.random.random() < 0.6:
            command = self.random.choice(self.running[-5:]).command
            self.put("task.cancel", {"id": command.task, "root": command.root}, command.root)
        elif self.names:
            task = f"{self.random.choice('tw')}{self.random.randrange(self.names) + 1}"
            self.put("task.cancel", {"id": task}, task)

    def cancel_step(self) -> None:
        if self.roots:
            root = self.random.choice(self.roots)
            step = step_id(root, self.random.choice(self.keys[root]))
            self.put("task.cancel", {"id": step, "root": root, "reason": "enough", "by": "somebody"}, root)

    # Workers

    def worker_joins(self) -> None:
        name = f"worker{len(self.alive) + self.names}"
        pool = self.random.choice(["default", "default", LATE_POOL])
        about: dict[str, Any] = {"pool": pool, "names": list(NAMES) if pool == LATE_POOL else ["a", "b"]}
        if self.random.random() < 0.5:
            about["options"] = {self.random.choice(NAMES): self.options() for _ in range(2)}
        self.alive[name] = about
        self.tell(name, "worker.registered")

    def options(self) -> dict[str, object]:
        options: dict[str, object] = {"retry": self.retry(), "timeout_seconds": self.random.choice([1.0, 30.0])}
        options["delivery"] = self.random.choice(["at_least_once", "at_most_once"])
        return {name: value for name, value in options.items() if self.random.random() < 0.6}

    def tell(self, name: str, kind: str, **more: Any) -> None:
        """What a worker says of itself goes to every partition."""
        for world in self.worlds:
            world.worker(name, kind=kind, **{"credit": self.random.randrange(1, 5), **self.alive[name], **more})

    def worker_beats(self) -> None:
        for name in sorted(self.alive):
            for world in self.worlds:
                holding = [entry.command.token for entry in self.held(name) if entry.command.partition == world.number]
                if self.random.random() < 0.1:
                    holding = holding[1:]  # It forgot one, and may remember it later.
                said: dict[str, Any] = {"holding": holding} if self.random.random() < 0.8 else {}
                credit = self.random.randrange(1, 5)
                world.worker(name, kind="worker.heartbeat", credit=credit, **self.alive[name], **said)

    def held(self, worker: str) -> list[Running]:
        return [entry for entry in self.running if entry.worker == worker]

    def worker_drains(self) -> None:
        """Or it has drained: then it hands back what it has not started, and is gone."""
        if not self.alive:
            return
        name = self.random.choice(sorted(self.alive))
        if self.random.random() < 0.5:
            self.tell(name, "worker.draining")
            return
        for entry in self.held(name):
            if entry.number == 0:
                self.say(entry, "attempt.released")
        self.tell(name, "worker.stopped", slots=0, credit=0)
        del self.alive[name]

    def worker_dies(self) -> None:
        if self.alive:
            name = self.random.choice(sorted(self.alive))
            del self.alive[name]
            if self.random.random() < 0.5:
                for world in self.worlds:
                    world.put("worker.lost", {"incarnation": name})

    def worker_reports(self) -> None:
        if not self.running:
            return
        living = [entry for entry in self.running if entry.worker in self.alive]
        entry = self.random.choice(living if living and self.random.random() < 0.8 else self.running)
        ends = ["completed", "failed", "released", "cancelled"]
        kind = "attempt." + self.random.choice(["started", "progressed", *ends, "completed", "failed"])
        if entry.command.delivery == "at_most_once" and not entry.granted:
            kind = self.random.choice(["attempt.started", "attempt.started", "attempt.released"])
        if entry.number > 0 and kind in ("attempt.released", "attempt.started") and entry.granted:
            kind = "attempt.completed"
        if entry.cancelled and self.random.random() < 0.5:
            kind = "attempt.cancelled"
        self.say(entry, kind)
        if kind.removeprefix("attempt.") in ends and self.random.random() < 0.9:
            self.running.remove(entry)  # Otherwise it will say something again, too late.
        elif kind != "attempt.started" or entry.command.delivery != "at_most_once":
            entry.number += 1

    def say(self, entry: Running, kind: str) -> None:
        more: dict[str, object] = {}
        if kind == "attempt.completed":
            more = {"result": entry.command.task}
        elif kind == "attempt.failed":
            more = {"error": {"type": "E", "message": "no", "retryable": self.random.random() < 0.8}}
            more["timed_out"] = entry.command.timeout_seconds is not None and self.random.random() < 0.3
        elif kind == "attempt.progressed":
            more = {"percent": 50.0}
        world = self.worlds[entry.command.partition]
        if self.random.random() < 0.03:
            world = self.random.choice(self.worlds)  # A foreign worker, which does not know where tasks live.
        world.report(entry.command, kind, incarnation=entry.worker, number=entry.number + 1, **more)

    # Others

    def pool_appears(self) -> None:
        """A commands topic for the late pool; owners see it when a worker of it has spoken."""
        for world in self.worlds:
            if LATE_POOL not in world.pools:
                world.pools.append(LATE_POOL)

    def hostile(self) -> None:
        """A record that no client of ours would send."""
        world = self.random.choice(self.worlds)
        world.topics.append("hub.intake", world.number, hostile_record(self.random))

    # The end

    def heal(self) -> None:
        """Nobody dies any more; one good worker of each pool takes whatever there is until nothing is left."""
        for name in sorted(self.alive):
            self.tell(name, "worker.stopped", slots=0, credit=0)
        self.pool_appears()
        for world in self.worlds:
            self.step(world)
        for changes in range(HEALING_ROUNDS_MAX):
            for world in self.worlds:
                self._heal_round(world, cancels=changes == HEALING_ROUNDS_MAX // 2)
            if not any(world.engine.state.live or self.undecided(world) for world in self.worlds):
                return
        tasks = [task for world in self.worlds for task in world.engine.state.tasks.values()]
        raise AssertionError(f"never ended: {[(task.id, task.row.state) for task in tasks if not task.ended]}")

    def undecided(self, world: World) -> bool:
        return bool(world.intake) and world.intake[-1].offset >= world.engine.offset

    def _heal_round(self, world: World, *, cancels: bool) -> None:
        """`cancels`: what strangers want in a year is given up."""
        rows = [task.row for task in world.engine.state.tasks.values()]
        if cancels:
            for task in [task for task in world.engine.state.tasks.values() if not task.ended]:
                world.put("task.cancel", {"id": task.id, "root": task.root})
        about: dict[str, Any] = {"names": sorted({row.name for row in rows}), "queues": sorted({row.queue for row in rows})}
        for pool in world.pools:
            world.worker(f"healer of {pool}", kind="worker.heartbeat", credit=50, pool=pool, **about)
        self.step(world, seconds=2)
        self.collect(world)
        for entry in [entry for entry in self.running if entry.worker.startswith("healer")]:
            if entry.command.delivery == "at_most_once" and not entry.granted:
                if entry.number == 0:
                    self.say(entry, "attempt.started")
                    entry.number = 1
            else:
                self.say(entry, "attempt.completed")
                self.running.remove(entry)

    def verify(self) -> VerificationReport:
        """What the checker finds when all is over."""
        acknowledged = [str(fields["id"]) for fields in self.submitted]
        return self.topics.verify(all_ended=True, acknowledged=set(acknowledged), executions=self.executions)


def healed(seed: int) -> Schedule:
    """The schedule of `seed`, run to its end."""
    schedule = Schedule(seed)
    for _ in range(STEPS):
        schedule.one()
    schedule.heal()
    for world in schedule.worlds:
        world.until_quiet(10)
    return schedule
