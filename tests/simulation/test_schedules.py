"""Random schedules of one partition on one seed: submissions, workers that die, lie and repeat themselves, crashes that lose
the batch at hand, time that jumps. Afterwards everything must heal, and the log must tell one true story.

A failing seed is replayed with `pytest tests/simulation -k "seed<number>-"`.
"""

import random

import msgspec
import pytest

from schemas import TERMINAL_STATES, Dependency, RunAttempt
from tests.engine.harness import World, check_fold, check_log

SCHEDULES = 400
STEPS = 80


class Schedule:
    """One seed's world and what may happen in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World()
        self.eagerness = self.random.choice([0.2, 0.7, 1.0])  # how soon what was said is decided
        self.running: list[tuple[RunAttempt, str, int]] = []
        self.alive: set[str] = set()
        self.names = 0
        self.roots: list[str] = []
        self.keys: dict[str, list[str]] = {}
        self.submitted: list[dict[str, object]] = []

    def one(self) -> None:
        actions = [
            (self.submit, 6),
            (self.submit_graph, 3),
            (self.add_node, 4),
            (self.resubmit, 1),
            (self.cancel, 1),
            (self.worker_joins, 2),
            (self.worker_beats, 4),
            (self.worker_dies, 1),
            (self.worker_reports, 12),
            (self.garbage, 1),
        ]
        action = self.random.choices([entry[0] for entry in actions], [entry[1] for entry in actions])[0]
        action()
        if self.random.random() < self.eagerness:
            self.turn()

    def turn(self) -> None:
        seconds = self.random.choice([0, 0, 0, 0.01, 0.5, 3, 12])
        if self.random.random() < 0.08:
            self.world.step(seconds=seconds, limit=self.random.randrange(1, 5), commit=False)
            self.world.crash()
        else:
            self.world.step(seconds=seconds, limit=self.random.choice([1, 3, 8, 40]), caught_up=self.random.random() < 0.8)
        self.collect()

    def collect(self) -> None:
        for kind, worker, data in self.world.commands:
            if kind == "attempt.run":
                self.running.append((data, worker, 0))
            elif kind == "attempt.grant":
                token = msgspec.json.decode(data)["token"]
                self.running = [(run, who, 1 if run.token == token else number) for run, who, number in self.running]
        self.world.commands.clear()

    def fields(self) -> dict[str, object]:
        self.names += 1
        fields: dict[str, object] = {"name": self.random.choice(["a", "b"]), "id": f"t{self.names}"}
        if self.random.random() < 0.2:
            fields["start_after"] = self.random.choice([0, 1, 20])
        if self.random.random() < 0.2:
            fields["timeouts"] = {self.random.choice(["attempt", "total", "start"]): self.random.choice([1, 30])}
        if self.random.random() < 0.5:
            fields["retry"] = {"max_attempts": self.random.randrange(1, 4), "backoff": [self.random.choice([0, 2])]}
        if self.random.random() < 0.15:
            fields["delivery"] = "at_most_once"
        if self.random.random() < 0.1:
            fields["args"] = {"text": "x" * 600}
        fields["priority"] = self.random.randrange(3)
        return fields

    def submit(self) -> None:
        fields = self.fields()
        self.submitted.append(fields)
        self.world.put("task.created", fields, replyto=b"1:" + str(fields["id"]).encode())

    def submit_graph(self) -> None:
        nodes: dict[str, object] = {}
        for index in range(self.random.randrange(1, 7)):
            node = self.fields()
            del node["id"]
            before = self.random.sample(list(nodes), self.random.randrange(min(3, len(nodes)) + 1))
            outcomes = ["success", "success", "failure", "ended"]
            node["depends_on"] = [{"task": key, "on": self.random.choice(outcomes)} for key in before]
            nodes[f"n{index}"] = node
        self.names += 1
        root = f"w{self.names}"
        self.roots.append(root)
        self.keys[root] = list(nodes)
        self.world.put("task.created", {"name": "w", "id": root, "tasks": nodes}, replyto=b"1:" + root.encode())

    def add_node(self) -> None:
        if self.roots:
            self.names += 1
            root = self.random.choice(self.roots)
            known = self.keys[root]
            before = self.random.sample(known, self.random.randrange(min(3, len(known)) + 1))
            key = f"x{self.names}"
            known.append(key)
            self.world.put("task.created", {"name": "a", "root_id": root, "key": key, "depends_on": before})

    def resubmit(self) -> None:
        if self.submitted:
            self.world.put("task.created", self.random.choice(self.submitted))

    def cancel(self) -> None:
        if self.names:
            self.world.put("task.cancel", {"id": f"{self.random.choice('tw')}{self.random.randrange(self.names) + 1}"})

    def worker_joins(self) -> None:
        name = f"worker{len(self.alive) + self.names}"
        self.alive.add(name)
        self.world.worker(name, credit=self.random.randrange(1, 5))

    def worker_beats(self) -> None:
        for name in sorted(self.alive):
            holding = [run.token for run, who, _ in self.running if who == name]
            if self.random.random() < 0.1:
                holding = holding[1:]  # It forgot one, and may remember it later.
            said = {"holding": holding} if self.random.random() < 0.8 else {}
            self.world.worker(name, kind="worker.heartbeat", credit=self.random.randrange(1, 5), **said)

    def worker_dies(self) -> None:
        if self.alive:
            name = self.random.choice(sorted(self.alive))
            self.alive.discard(name)
            if self.random.random() < 0.5:
                self.world.put("worker.lost", {"incarnation": name})

    def worker_reports(self) -> None:
        if not self.running:
            return
        index = self.random.randrange(len(self.running))
        run, worker, number = self.running[index]
        kind = "attempt." + self.random.choice(["started", "progressed", "completed", "failed", "released"])
        if run.delivery == "at_most_once" and number == 0:
            kind = "attempt.started"
        if number > 0 and kind in ("attempt.released", "attempt.started"):
            kind = "attempt.completed"
        self.say(run, worker, kind, number + 1)
        over = kind in ("attempt.completed", "attempt.failed", "attempt.released")
        if over and self.random.random() < 0.9:
            self.running.pop(index)  # Otherwise it will say something again, too late.
        elif kind != "attempt.started" or run.delivery != "at_most_once":
            self.running[index] = (run, worker, number + 1)

    def say(self, run: RunAttempt, worker: str, kind: str, number: int) -> None:
        more: dict[str, object] = {}
        if kind == "attempt.completed":
            more = {"result": run.task}
        elif kind == "attempt.failed":
            more = {"error": {"type": "E", "message": "no", "retryable": self.random.random() < 0.8}}
        elif kind == "attempt.progressed":
            more = {"percent": 50.0}
        self.world.report(run, kind, incarnation=worker, number=number, **more)

    def garbage(self) -> None:
        self.world.put(self.random.choice(["task.created", "attempt.started", "x"]), self.random.randbytes(20))

    def heal(self) -> None:
        """Nobody dies any more; one good worker takes whatever there is until nothing is left."""
        for name in sorted(self.alive):
            self.world.put("worker.stopped", self._stopped(name))
        self.world.step()
        for _ in range(300):
            self.world.worker("healer", kind="worker.heartbeat", credit=50)
            self.world.step(seconds=2)
            for kind, worker, data in list(self.world.commands):
                if worker == "healer" and kind == "attempt.run":
                    if data.delivery == "at_most_once":
                        self.say(data, worker, "attempt.started", 1)
                    self.say(data, worker, "attempt.completed", 2)
                elif worker == "healer" and kind == "attempt.cancel":
                    continue
            self.world.commands.clear()
            if not self.world.engine.state.live:
                return
        tasks = self.world.engine.state.tasks.values()
        raise AssertionError(f"never ended: {[(task.id, task.row.state) for task in tasks if not task.ended]}")

    def _stopped(self, name: str) -> dict[str, object]:
        return {"incarnation": name, "pool": "default", "inbox": 3, "queues": [], "names": [], "slots": 0, "credit": 0}


def check_order(world: World) -> None:
    """Nothing is dispatched before what it waits for has ended as it must."""
    needed: dict[str, list[Dependency]] = {}
    ended: dict[str, str] = {}
    for event in world.events:
        if event.type == "task.created":
            needed[event.subject] = event.data.depends_on
        elif event.type == "task.dispatched":
            for dependency in needed[event.subject]:
                state = ended.get(dependency.task)
                fits = {"success": ("completed",), "failure": ("failed", "expired"), "ended": tuple(TERMINAL_STATES)}
                assert state in fits[dependency.on], f"{event.subject} before {dependency.task}, which is {state}"
        if event.to_state in TERMINAL_STATES:
            ended[event.subject] = event.to_state


@pytest.mark.parametrize("seed", range(SCHEDULES), ids=lambda seed: f"seed{seed}-")
def test_every_schedule_heals_and_its_log_tells_one_true_story(seed: int) -> None:
    schedule = Schedule(seed)
    for _ in range(STEPS):
        schedule.one()
    check_fold(schedule.world)
    schedule.heal()
    world = schedule.world
    world.until_quiet(10)
    check_log(world)
    check_fold(world)
    check_order(world)
    ended = [event for event in world.events if event.to_state in TERMINAL_STATES]
    created = [event for event in world.events if event.type == "task.created"]
    assert {(event.subject, event.life) for event in ended} == {(event.subject, event.life) for event in created}
    assert len(ended) == len(created)
    assert not world.engine.state.held, "nobody holds anything"
    assert not world.engine.state.dependents, "nobody waits for anything"
    before = {key: value for key, value in world.rows.items() if key.startswith((b"task/", b"args/", b"plan/"))}
    world.crash()
    assert before == {key: value for key, value in world.rows.items() if key.startswith((b"task/", b"args/", b"plan/"))}
    assert all(value.startswith(b'{"ended"') for key, value in before.items())


def test_a_restored_partition_is_the_one_that_was_lost() -> None:
    schedule = Schedule(7)
    for _ in range(STEPS):
        schedule.one()
    schedule.world.step()
    state = schedule.world.engine.state
    rows = {name: msgspec.json.encode(task.row) for name, task in state.tasks.items()}
    ready = sorted(state.ready.waiting)
    held = {worker: holding for worker, holding in state.held.items() if holding}
    dependents = {name: sorted(after) for name, after in state.dependents.items()}
    schedule.world.crash()
    restored = schedule.world.engine.state
    assert {name: msgspec.json.encode(task.row) for name, task in restored.tasks.items()} == rows
    assert sorted(restored.ready.waiting) == ready
    assert restored.held == held
    waiting = {name for task in restored.tasks.values() if task.row.state == "blocked" for name in [task.id]}
    assert {n for after in dependents.values() for n in after} & waiting == {
        n for after in restored.dependents.values() for n in after
    } & waiting
