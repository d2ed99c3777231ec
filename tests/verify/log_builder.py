"""Builds good histories of the hub, step by step: what the engine would have written, by hand.

`LogBuilder` has one method per action; each is one transaction on one partition (its events have consecutive offsets, the
commit marker takes the next one). Everything can be edited until `history()`, so that a test can damage one place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import json

from hub.verify import History
from hub.verify.placement import partition_of_root
from schemas import CATALOGUE, TERMINAL_TYPES, source_of, step_id

INBOX = 3
BEGIN_MS = 1_700_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Parts of a policy that a definition may have.
POLICY = ("retry", "timeout_seconds", "delivery")

TO = {
    "task.scheduled": "scheduled",
    "task.blocked": "blocked",
    "task.ready": "ready",
    "task.dispatched": "dispatched",
    "task.started": "running",
    "attempt.started": "running",
    "workflow.started": "running",
    "task.retry_scheduled": "retrying",
    "task.completed": "completed",
    "workflow.completed": "completed",
    "task.failed": "failed",
    "workflow.failed": "failed",
    "task.cancelled": "cancelled",
    "workflow.cancelled": "cancelled",
    "task.expired": "expired",
    "task.skipped": "skipped",
}


class Row(NamedTuple):
    """A record as a reader gives it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class Entry:
    """One record under construction; `body` is its JSON value."""

    offset: int
    time_ms: int
    key: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return self.headers["ce_type"]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data

    def row(self) -> Row:
        headers = tuple((name, value.encode()) for name, value in self.headers.items())
        return Row(self.offset, self.time_ms, self.key.encode(), json.encode(self.body), headers)


@dataclass
class Task:
    """What the builder remembers of a task to write its next events and its row."""

    id: str
    root: str
    partition: int
    run: int
    name: str
    created_ms: int
    sequence: int = 0
    state: str | None = None
    attempt: int = 0
    dispatch: int = 0
    worker: str | None = None
    token: str | None = None
    number: int = 0
    unmet: int = 0
    policy: dict[str, Any] = field(default_factory=dict)
    version: str | None = None
    unresolved: bool = False
    lost: int = 0
    cancelling: bool = False

    @property
    def max_attempts(self) -> int:
        retry: dict[str, int] = self.policy.get("retry", {})
        return 1 if self.policy.get("delivery") == "at_most_once" else retry.get("max_attempts", 3)

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled", "expired", "skipped")

    def row(self, *, whole: bool = False) -> dict[str, Any]:
        """Its row; `whole`: also after its end, as that of a step whose workflow lives."""
        if self.ended and not whole:
            root = {} if self.root == self.id else {"root": self.root}
            return {"ended": self.state, "sequence": self.sequence, "run": self.run, **root}
        fields: dict[str, Any] = {
            "run": self.run,
            "sequence": self.sequence,
            "state": self.state,
            "name": self.name,
            "root": self.root,
        }
        fields |= {"attempt": self.attempt, "dispatch": self.dispatch, "lease": {"worker": self.worker, "token": self.token}}
        fields |= {"policy": {} if self.unresolved else self.policy, "lost": self.lost}
        fields |= {"version": self.version} if self.version is not None else {}
        fields |= {"unresolved": True} if self.unresolved else {}
        fields |= {"cancel": {"reason": "no more"}} if self.cancelling else {}
        return fields | {"unmet": self.unmet, "created_at": rfc3339(self.created_ms)}


@dataclass
class Partition:
    """One partition of the hub: its log, its intake, its engine."""

    number: int
    events: list[Entry] = field(default_factory=list)
    intake: list[Entry] = field(default_factory=list)
    next_offset: int = 0
    epoch: int = 0
    engine_sequence: int = 0
    items: int = 0
    defined: dict[str, dict[str, Any]] = field(default_factory=dict)
    announced: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def rfc3339(time_ms: int) -> str:
    return (EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LogBuilder:
    """A hub of `count` partitions; `now_ms` advances by 10 ms with every transaction."""

    def __init__(self, count: int = 1) -> None:
        self.now_ms = BEGIN_MS
        self.partitions = [Partition(number) for number in range(count)]
        self.tasks: dict[str, Task] = {}
        self.workers: dict[str, tuple[int, int]] = {}
        self.definitions: dict[str, dict[str, Any]] = {}
        self.commands: list[Entry] = []
        self.extra_rows: dict[tuple[int, str], dict[str, Any]] = {}
        for partition in self.partitions:
            self.take_over(partition.number)

    # What a test reads

    def event(self, subject: str, event_type: str) -> Entry:
        """The last event of this type of an entity."""
        return [entry for entry in self.all_events() if entry.type == event_type and entry.headers["ce_subject"] == subject][-1]

    def all_events(self) -> Iterator[Entry]:
        for partition in self.partitions:
            yield from partition.events

    def history(self, **fields: Any) -> History:
        events = {partition.number: [entry.row() for entry in partition.events] for partition in self.partitions}
        intake = {partition.number: [entry.row() for entry in partition.intake] for partition in self.partitions}
        given: dict[str, Any] = {
            "partitions": len(self.partitions),
            "events": events,
            "intake": intake,
            "state": self.state(),
            "commands": {"hub.commands.default": {INBOX: [entry.row() for entry in self.commands]}},
        }
        return History(**(given | fields))

    def state(self) -> dict[int, dict[bytes, bytes | None]]:
        rows: dict[int, dict[bytes, bytes | None]] = {partition.number: {} for partition in self.partitions}
        for partition in self.partitions:
            meta = {"offset": len(partition.intake), "epoch": partition.epoch}
            rows[partition.number][b"!meta"] = json.encode(meta)
            engine = {"sequence": partition.engine_sequence}
            rows[partition.number][f"engine/{partition.number}".encode()] = json.encode(engine)
        for task in self.tasks.values():
            row = task.row(whole=not self.tasks[task.root].ended)
            rows[task.partition][f"task/{task.id}".encode()] = json.encode(row)
        for worker, (home, sequence) in self.workers.items():
            rows[home][f"worker/{worker}".encode()] = json.encode({"run": 0, "sequence": sequence})
        for name, row in self.definitions.items():
            rows[int(name.partition("/")[0])][f"definition/{name}".encode()] = json.encode(row)
        for (number, key), row in self.extra_rows.items():
            rows[number][key.encode()] = json.encode(row)
        return rows

    # What the engine does

    def transaction(self, number: int, cause: str, events: list[tuple[str, str, dict[str, Any]]]) -> list[Entry]:
        """Commit (entity, type, data) triples that `cause` made; returns the entries."""
        partition = self.partitions[number]
        self.now_ms += 10
        entries = []
        for index, (entity, event_type, data) in enumerate(events):
            entries.append(self._entry(partition, f"{cause}/{index}", entity, event_type, data))
            partition.events.append(entries[-1])
            partition.next_offset += 1
        partition.next_offset += 1
        return entries

    def _entry(self, partition: Partition, src: str, entity: str, event_type: str, data: dict[str, Any]) -> Entry:
        kind, _, name = entity.partition("/")
        body: dict[str, Any] = {"entity": entity, "src": src, "epoch": partition.epoch}
        headers = {"ce_specversion": "1.0", "ce_type": event_type, "ce_id": src, "ce_subject": name}
        headers["ce_time"] = rfc3339(self.now_ms)
        key = name
        if kind == "task":
            task = self.tasks[name]
            task.sequence += 1
            task.lost += event_type in ("attempt.lost", "attempt.lease_expired")
            task.cancelling |= event_type == "task.cancel_requested"
            key = task.root
            body |= {"sequence": task.sequence, "run": task.run, "rootid": task.root}
            if event_type in TO:
                if task.state is not None:
                    body["from"] = task.state
                body["to"] = task.state = TO[event_type]
            headers |= {"ce_source": f"/hub/default/{entity}", "ce_namespace": "default", "ce_taskname": task.name}
        elif kind == "engine":
            partition.engine_sequence += 1
            body |= {"sequence": partition.engine_sequence, "run": 0}
            headers["ce_source"] = f"/hub/-/{entity}"
        elif kind == "definition":
            self._define(name, event_type, data)
            body |= {"sequence": self.definitions[name]["sequence"], "run": 0}
            headers["ce_source"] = source_of(None, entity)
        else:
            home, sequence = self.workers.get(name, (partition.number, 0))
            self.workers[name] = (home, sequence + 1)
            body |= {"sequence": sequence + 1, "run": 0}
            headers["ce_source"] = f"/hub/-/{entity}"
        headers["ce_sequence"] = f"{body['sequence']:010d}"
        headers["ce_severitynumber"] = str(CATALOGUE[event_type].severity)
        body["data"] = data
        return Entry(partition.next_offset, self.now_ms, key, headers, body)

    def _define(self, name: str, event_type: str, data: dict[str, Any]) -> None:
        row = self.definitions.setdefault(name, {"sequence": 0, "state": "active"})
        row["sequence"] += 1
        if event_type == "definition.registered":
            row["definition"] = data["definition"]
        else:
            row["state"] = "deprecated"

    def report(self, number: int, report_type: str, key: str, value: dict[str, Any] | None = None) -> str:
        """A record on hub.intake; returns the cause it is for events."""
        intake = self.partitions[number].intake
        intake.append(Entry(len(intake), self.now_ms, key, {"ce_type": report_type}, value or {}))
        return f"{number}/{len(intake) - 1}"

    def partition_of(self, root: str) -> int:
        """Where a root lives."""
        return partition_of_root(root, len(self.partitions))

    def sibling(self, root: str) -> str:
        """The id of another root on the partition of this one, which no task has yet."""
        names = (f"{root}+{number}" for number in range(1_000))
        return next(name for name in names if name not in self.tasks and self.partition_of(name) == self.partition_of(root))

    def agenda(self, number: int, item: str, due_ms: int | None = None) -> str:
        """The cause of an agenda item that is due now, or was at `due_ms`."""
        partition = self.partitions[number]
        partition.items += 1
        return f"agenda/{number}/{item}-{partition.items}/{due_ms if due_ms is not None else self.now_ms}"

    def take_over(self, number: int) -> None:
        partition = self.partitions[number]
        partition.epoch += 1
        data = {"partitions": len(self.partitions), "input_offset": len(partition.intake)}
        self.transaction(number, f"start/{number}/{partition.epoch}", [(f"engine/{number}", "engine.started", data)])

    def worker(self, name: str) -> None:
        cause = self.report(0, "worker.registered", name)
        self.transaction(0, cause, [(f"worker/{name}", "worker.registered", {"pool": "default", "inbox": INBOX})])

    def define(self, number: int, worker: str, name: str, *, version: str = "1", **options: Any) -> None:
        """A worker announces one more definition to a partition, to which it may be known already."""
        definition = {"name": name, **({} if version == "1" else {"version": version}), **options}
        partition = self.partitions[number]
        announced = partition.announced.setdefault(worker, [])
        announced.append(definition)
        value = {"incarnation": worker, "revision": len(announced), "definitions": list(announced)}
        cause = self.report(number, "worker.registered", worker, value)
        key = f"{name}@{version}"
        if partition.defined.get(key) != definition:
            partition.defined[key] = definition
            data = {"definition": definition, "worker": worker}
            self.transaction(number, cause, [(f"definition/{number}/*/{key}", "definition.registered", data)])

    def deprecate(self, number: int, name: str, version: str = "1") -> None:
        """An operator deprecates a version on a partition."""
        cause = self.report(number, "definition.deprecate", name, {"name": name, "version": version})
        data = {"name": name, "version": version}
        self.transaction(number, cause, [(f"definition/{number}/*/{name}@{version}", "definition.deprecated", data)])

    def _resolve(self, task: Task) -> dict[str, Any]:
        """What the engine adds to `task.created`, by what the partition knows in version 1."""
        definition = self.partitions[task.partition].defined.get(f"{task.name}@1")
        if definition is None:
            task.unresolved = True
            return {"unresolved": True}
        task.version = "1"
        task.policy = {field: definition[field] for field in POLICY if field in definition} | task.policy
        return {"version": "1", **({"policy": task.policy} if task.policy else {})}

    def heartbeat(self, name: str) -> None:
        for partition in self.partitions:
            self.report(partition.number, "worker.heartbeat", name)

    def submit(self, task_id: str, *, name: str = "charge", after: str = "ready", **data: Any) -> Task:
        """A single task; `after`: the state it begins in (ready or scheduled)."""
        number = partition_of_root(task_id, len(self.partitions))
        cause = self.report(number, "task.created", task_id)
        run = int(cause.split("/")[1])
        policy: dict[str, Any] = {name: data[name] for name in ("retry", "delivery") if name in data}
        if "attempt" in data.get("timeouts", {}):
            policy["timeout_seconds"] = data["timeouts"]["attempt"]
        task = self.tasks[task_id] = Task(task_id, task_id, number, run, name, self.now_ms + 10, policy=policy)
        made = self._resolve(task) | data
        task.policy, task.version = made.get("policy", task.policy), made.get("version", task.version)
        events = [(f"task/{task_id}", "task.created", {"name": name, **made})]
        if after == "scheduled":
            events.append((f"task/{task_id}", "task.scheduled", {"start_after": data["start_after"]}))
        else:
            events.append((f"task/{task_id}", "task.ready", {"queue": "default"}))
        self.transaction(number, cause, events)
        return self.tasks[task_id]

    def workflow(self, root: str, steps: dict[str, list[dict[str, str]]], **given: dict[str, Any]) -> dict[str, Task]:
        """A graph: key → dependencies ({"task": key, "on": …}); returns the steps' tasks by key. `given`: more data of a step."""
        number = partition_of_root(root, len(self.partitions))
        cause = self.report(number, "task.created", root)
        run, entity = int(cause.split("/")[1]), f"task/{root}"
        self.tasks[root] = Task(root, root, number, run, "flow", self.now_ms + 10)
        events = [(entity, "task.created", {"name": "flow", "steps_total": len(steps)})]
        events.append((entity, "workflow.started", {"steps_total": len(steps), "planned": len(steps)}))
        made = {key: self._step(root, key, run, needed, events, **given.get(key, {})) for key, needed in steps.items()}
        self.transaction(number, cause, events)
        return made

    def add_steps(self, root: str, steps: dict[str, list[dict[str, str]]]) -> dict[str, Task]:
        """Several steps added to a live graph by one report, as `workflow`."""
        number = self.tasks[root].partition
        cause = self.report(number, "task.created", root)
        total = len(steps) + sum(task.root == root and task.id != root for task in self.tasks.values())
        events: list[tuple[str, str, dict[str, Any]]] = [
            (f"task/{root}", "workflow.expanded", {"added": len(steps), "steps_total": total})
        ]
        run = int(cause.split("/")[1])
        made = {key: self._step(root, key, run, needed, events) for key, needed in steps.items()}
        self.transaction(number, cause, events)
        return made

    def plan(self, root: str, steps: dict[str, list[dict[str, str]]]) -> dict[str, Task]:
        """The next steps of a large graph, made by an agenda item, as `workflow`."""
        run, number = self.tasks[root].run, self.tasks[root].partition
        events = [(f"task/{root}", "workflow.progressed", {"steps_total": len(steps), "planned": len(steps)})]
        made = {key: self._step(root, key, run, needed, events) for key, needed in steps.items()}
        self.transaction(number, self.agenda(number, "plan"), events)
        return made

    def _step(
        self,
        root: str,
        key: str,
        run: int,
        needed: list[dict[str, str]],
        events: list[tuple[str, str, dict[str, Any]]],
        **given: Any,
    ) -> Task:
        task_id = step_id(root, key)
        task = Task(task_id, root, self.tasks[root].partition, run, key, self.now_ms + 10, unmet=len(needed))
        self.tasks[task_id] = task
        needs = [dependency | {"task": step_id(root, dependency["task"])} for dependency in needed]
        data = {"name": key, "key": key, "depends_on": needs, "parent_id": root, **self._resolve(task), **given}
        events.append((f"task/{task_id}", "task.created", data))
        if needed:
            events.append((f"task/{task_id}", "task.blocked", {"unmet": len(needed)}))
        else:
            events.append((f"task/{task_id}", "task.ready", {"queue": "default"}))
        return task

    def refuse(self, root: str, event_type: str = "task.rejected", **data: Any) -> None:
        number = partition_of_root(root, len(self.partitions))
        cause = self.report(number, "task.created", root)
        self.transaction(number, cause, [(f"engine/{number}", event_type, {"task": root, **data})])

    def dispatch(self, task: Task, worker: str, *, attempt: int | None = None, policy: dict[str, Any] | None = None) -> None:
        """`policy`: what the worker registers, of a name that was not known; it holds where the submission has nothing."""
        if all(one["name"] != task.name for one in self.partitions[task.partition].announced.get(worker, ())):
            known = self.partitions[task.partition].defined.get(f"{task.name}@1", {"name": task.name})
            self.define(task.partition, worker, **{**known, **(policy or {})})
        fixed = {}
        if task.unresolved:
            task.policy = (policy or {}) | task.policy
            task.unresolved, task.version = False, "1"
            fixed = {"version": "1"}
        task.attempt = attempt or task.attempt or 1
        task.dispatch += 1
        task.worker, task.token = worker, f"{task.id}.{task.attempt}.{task.dispatch}"
        given: dict[str, Any] = {"token": task.token, "worker": worker, "dispatch": task.dispatch, "policy": task.policy}
        given |= fixed
        self.act(task, "task.dispatched", pool="default", inbox=INBOX, queue="default", **given)
        shared = {"task": task.id, "root": task.root, "partition": task.partition, "attempt": task.attempt}
        body = shared | {"dispatch": task.dispatch, "token": task.token, "namespace": "default", "name": task.name}
        body |= {name: task.policy[name] for name in ("timeout_seconds", "delivery") if name in task.policy}
        body["max_attempts"] = task.max_attempts
        self.command("attempt.execute", task, body)
        task.number = 0

    def command(self, kind: str, task: Task, body: dict[str, Any]) -> None:
        headers = {"ce_type": kind, "worker": task.worker or ""}
        self.commands.append(Entry(len(self.commands), self.now_ms, task.id, headers, body))

    def act(self, task: Task, event_type: str, *, due_ms: int | None = None, **data: Any) -> Entry:
        """One event of a task that time (or the engine) caused."""
        if event_type != "task.skipped" and (event_type in TERMINAL_TYPES or event_type.startswith("attempt.")):
            data = self._held(task, event_type) | data
        elif event_type in ("task.dispatched", "task.retry_scheduled"):
            data = {"attempt": task.attempt} | data
        if event_type in TERMINAL_TYPES:
            data = self._over(task) | data
        cause = self.agenda(task.partition, event_type, due_ms)
        return self.transaction(task.partition, cause, [(f"task/{task.id}", event_type, data)])[0]

    def told(self, task: Task, report_type: str, *steps: tuple[str, dict[str, Any]]) -> None:
        """A report of the task's worker and the events that it caused, all with the report's number."""
        cause = self.report(task.partition, report_type, task.root)
        number = {} if report_type == "task.cancel" else {"number": task.number + 1}
        task.number += len(number)
        events = []
        for event_type, data in steps:
            held = self._held(task, event_type) | number if event_type != "task.ready" else {}
            if event_type in TERMINAL_TYPES:
                held |= self._over(task)
            events.append((f"task/{task.id}", event_type, held | data))
        self.transaction(task.partition, cause, events)

    def _over(self, task: Task) -> dict[str, Any]:
        times = {"created_at": rfc3339(task.created_ms), "finished_at": rfc3339(self.now_ms)}
        return {**times, "max_attempts": task.max_attempts}

    def _held(self, task: Task, event_type: str) -> dict[str, Any]:
        held: dict[str, Any] = {"attempt": task.attempt}
        if task.worker is not None and event_type not in ("task.progressed", "task.cancel_requested"):
            held["worker"] = task.worker
        if event_type.startswith("attempt."):
            held["dispatch"] = task.dispatch
        if event_type in ("task.started", "attempt.started", "attempt.granted"):
            held["token"] = task.token
        return held

    # Whole steps

    def started(self, task: Task) -> None:
        self.told(task, "attempt.started", ("task.started" if task.attempt == 1 else "attempt.started", {}))

    def completed(self, task: Task) -> None:
        self.told(task, "attempt.completed", ("task.completed", {"result": {"paid": True}}))

    def retried(self, task: Task, worker: str) -> None:
        """The attempt fails, a retry is scheduled, becomes due and is dispatched."""
        self.told(task, "attempt.failed", ("attempt.failed", {"error": {"type": "ValueError", "message": "no"}}))
        due_ms = self.now_ms + 1_010
        data: dict[str, Any] = {"next_attempt": task.attempt + 1, "delay": 1.0, "cause": "error"}
        data["next_retry_at"] = rfc3339(due_ms)
        self.act(task, "task.retry_scheduled", **data)
        self.now_ms = due_ms
        self.act(task, "task.ready", due_ms=due_ms, queue="default")
        self.dispatch(task, worker, attempt=task.attempt + 1)

    def finish_workflow(self, root: str, event_type: str = "workflow.completed", **data: Any) -> None:
        task = self.tasks[root]
        ended = [step.state for step in self.tasks.values() if step.root == root and step.id != root]
        counts = {state: ended.count(state) for state in ("completed", "failed", "cancelled", "skipped", "expired")}
        self.act(task, event_type, **({"steps_total": len(ended), "attempt": 0} | counts | data))

    def met(self, task: Task, *, by: int = 1) -> None:
        """`by` dependencies of a blocked task were met; it becomes ready with the last one."""
        task.unmet -= by
        if task.unmet:
            self.act(task, "task.dependency_satisfied", unmet=task.unmet, count=by)
        else:
            self.act(task, "task.ready", queue="default")
