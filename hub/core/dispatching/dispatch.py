"""Dispatches ready tasks, in order of rank, to workers with credit. The engine chooses the worker."""

from heapq import heappop, heapreplace

from msgspec import Raw

from schemas import ExecuteAttempt, WorkWanted
from schemas import events as e
from schemas.tasks import INLINE_RESULTS_BYTES_MAX

from ..changes import Changes
from ..rows import TaskRow
from ..state import KnownDefinition, LiveWorker, Task
from ..state.ready import Bucket
from ..tasks.policy import policy_of
from ..tasks.tracing import attempt_traceparent, trace_period
from ..times import SECOND_US

#: Approximate limit of the bytes of commands in one batch, which must fit into `max.message.bytes`.
BYTES_PER_BATCH = 2 * 1024 * 1024


#: Shortest interval of notifications to a worker without credit that tasks are waiting.
WANTED_EVERY_US = 200_000


def dispatch(changes: Changes) -> None:
    """Issue commands as long as there is a ready task and a worker with credit for it; chooses the worker with most free
    credit."""
    state = changes.state
    if not state.ready.waiting or not state.workers:
        return
    free: dict[str, int] = {}
    candidates: dict[Bucket, tuple[KnownDefinition | None, list[LiveWorker]]] = {}
    heads = state.ready.heads()
    size = 0
    while heads:
        if size > BYTES_PER_BATCH:
            state.wake_dispatch(changes.now_us)  # the rest is dispatched in the next transaction
            return
        _, _, task_id, bucket = heads[0]
        found = candidates.get(bucket)
        if found is None:
            found = candidates[bucket] = _workers_for(changes, bucket, free)
        definition, workers = found
        worker = workers[0] if len(workers) == 1 else max(workers, key=lambda worker: free[worker.incarnation], default=None)
        if definition is None or worker is None or free[worker.incarnation] <= 0:
            heappop(heads)
            _want(changes, workers)
            continue
        head = state.ready.take(bucket)
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, (*head, bucket))
        free[worker.incarnation] -= 1
        size += _issue(changes, state.tasks[task_id], worker, definition)


def _workers_for(changes: Changes, bucket: Bucket, free: dict[str, int]) -> tuple[KnownDefinition | None, list[LiveWorker]]:
    """The definition of a bucket's tasks, and the workers that have it."""
    queue, namespace, name, version = bucket
    definition = changes.state.definitions.find(namespace, name, version)
    if definition is None:
        return None, []
    known = changes.state.workers.values()
    pools = changes.known.pools
    workers = [
        worker
        for worker in known
        if queue in worker.queues and definition.id in worker.definitions and not worker.draining and worker.pool in pools
    ]
    for worker in workers:
        free.setdefault(worker.incarnation, changes.state.free_credit(worker))
    return definition, workers


def _want(changes: Changes, workers: list[LiveWorker]) -> None:
    if changes.partitions == 1:
        return  # this partition already has all credit of the worker
    for worker in workers:
        if changes.now_us - worker.wanted_us >= WANTED_EVERY_US and worker.credit < worker.slots:
            worker.wanted_us = changes.now_us
            changes.command(worker, "", WorkWanted(partition=changes.partition, waiting=len(changes.state.ready)))


def _issue(changes: Changes, task: Task, worker: LiveWorker, known: KnownDefinition) -> int:
    """Dispatch one task. Returns the approximate size of its command in bytes."""
    row = task.row
    token = changes.next_src()
    attempt, dispatched = row.attempt + 1, row.dispatch + 1
    lease_seconds = worker.lease_us / SECOND_US
    root = task if row.root is None else changes.state.tasks.get(row.root) or task
    period = trace_period(root, changes.now_us, changes.settings.trace_max_age_seconds)
    policy = policy_of(row, known.definition)
    changes.apply(
        task,
        e.TaskDispatched(
            attempt=attempt,
            dispatch=dispatched,
            token=token,
            worker=worker.incarnation,
            pool=worker.pool,
            inbox=worker.inbox,
            queue=row.queue,
            priority=row.priority,
            lease_seconds=lease_seconds,
            policy=policy,
            version=known.definition.version if row.unresolved else None,
            trace_period=period,
        ),
    )
    command = _command(changes, task, token, lease_seconds, period)
    changes.command(worker, task.id, command)
    return 500 + len(bytes(task.args)) + sum(len(bytes(result)) for result in command.dependencies.values())


def _command(changes: Changes, task: Task, token: str, lease_seconds: float, period: int) -> ExecuteAttempt:
    """The command for the attempt that was just dispatched. A call with more than 15 named arguments would collect them in a dict
    first, so some fields are set one by one."""
    row, root = task.row, task.root
    command = ExecuteAttempt(
        task=task.id,
        root=root,
        partition=changes.partition,
        attempt=row.attempt,
        dispatch=row.dispatch,
        token=token,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        args=task.args,
        queue=row.queue,
        priority=row.priority,
        lease_seconds=lease_seconds,
        start_seconds=lease_seconds,
        traceparent=attempt_traceparent(task, row.attempt, period),
    )
    policy = row.policy
    command.delivery, command.max_attempts = policy.delivery, policy.max_attempts
    command.correlation_id = row.correlation or root
    if policy.timeout_seconds is not None:
        command.timeout_seconds = policy.timeout_seconds
    if row.key is not None:
        command.key = row.key
    if row.tags:
        command.tags = row.tags
    if row.depends_on:
        command.dependencies, command.dependencies_omitted = _dependency_results(changes, row)
    return command


def _dependency_results(changes: Changes, row: TaskRow) -> tuple[dict[str, Raw], list[str]]:
    results: dict[str, Raw] = {}
    omitted: list[str] = []
    size = 0
    for dependency in row.depends_on:
        before = changes.state.tasks.get(dependency.task)
        if before is None or not before.result:
            continue
        name = before.row.key or before.id
        size += len(bytes(before.result))
        if size > INLINE_RESULTS_BYTES_MAX:
            omitted.append(name)
        else:
            results[name] = before.result
    return results, omitted
