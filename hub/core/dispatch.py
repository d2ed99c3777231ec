"""Dispatch: ready tasks go to workers that have credit, best rank first; the engine chooses the worker."""

from hashlib import blake2b
from heapq import heappop, heappush

from msgspec import Raw

from schemas import RunAttempt, WorkWanted
from schemas import events as e
from schemas.tasks import INLINE_RESULTS_BYTES_MAX

from .policy import policy_of
from .ready import Bucket
from .rows import TaskRow
from .state import Task, Worker
from .times import SECOND_US
from .turn import Turn

#: Bytes of commands that one turn issues, about: a transaction's batch must fit into `max.message.bytes`.
BYTES_PER_TURN = 2 * 1024 * 1024

#: A worker without credit left is told at most this often that work waits for it here.
WANTED_EVERY_US = 200_000


def dispatch(turn: Turn) -> None:
    """Issue commands while there is a ready task and a worker for it with credit: the one with most free slots."""
    state = turn.state
    if not state.ready.waiting or not state.workers:
        return
    free: dict[str, int] = {}
    candidates: dict[Bucket, list[Worker]] = {}
    heads = state.ready.heads()
    size = 0
    while heads:
        if size > BYTES_PER_TURN:
            state.wake_dispatch(turn.now_us)  # The rest is dispatched in the next transaction.
            return
        _, _, task_id, bucket = heappop(heads)
        workers = candidates.get(bucket)
        if workers is None:
            workers = candidates[bucket] = _workers_for(turn, bucket, free)
        worker = max(workers, key=lambda worker: free[worker.incarnation], default=None)
        if worker is None or free[worker.incarnation] <= 0:
            _want(turn, workers)
            continue
        state.ready.pop(bucket)
        free[worker.incarnation] -= 1
        size += _issue(turn, state.tasks[task_id], worker)
        head = state.ready.head(bucket)
        if head is not None:
            heappush(heads, (*head, bucket))


def _workers_for(turn: Turn, bucket: Bucket, free: dict[str, int]) -> list[Worker]:
    queue, name = bucket
    known = turn.state.workers.values()
    pools = turn.state.pools
    workers = [
        worker
        for worker in known
        if queue in worker.queues and name in worker.names and not worker.draining and worker.pool in pools
    ]
    for worker in workers:
        free.setdefault(worker.incarnation, turn.state.free_credit(worker))
    return workers


def _want(turn: Turn, workers: list[Worker]) -> None:
    if turn.partitions == 1:
        return  # All of a worker's credit is here.
    for worker in workers:
        if turn.now_us - worker.wanted_us >= WANTED_EVERY_US and worker.credit < worker.slots:
            worker.wanted_us = turn.now_us
            turn.command(worker, "", WorkWanted(partition=turn.partition, waiting=len(turn.state.ready)))


def _issue(turn: Turn, task: Task, worker: Worker) -> int:
    """Dispatch one task; returns about how many bytes its command takes."""
    row = task.row
    token = turn.next_src()
    attempt, dispatched = row.attempt + 1, row.dispatch + 1
    lease_seconds = worker.lease_us / SECOND_US
    policy = policy_of(row, worker.options.get(row.name))
    turn.apply(
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
        ),
    )
    results, omitted = _dependency_results(turn, row)
    command = RunAttempt(
        task=task.id,
        root=task.root,
        partition=turn.partition,
        attempt=attempt,
        dispatch=dispatched,
        token=token,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        args=task.args,
        dependencies=results,
        dependencies_omitted=omitted,
        delivery=policy.delivery,
        queue=row.queue,
        priority=row.priority,
        lease_seconds=lease_seconds,
        start_seconds=lease_seconds,
        timeout_seconds=policy.timeout_seconds,
        max_attempts=policy.max_attempts,
        correlation_id=row.correlation or task.root,
        key=row.key,
        tags=row.tags,
        traceparent=traceparent_of(task, attempt),
    )
    turn.command(worker, task.id, command)
    turn.state.must_start(task, turn.now_us)
    return 500 + len(bytes(task.args)) + sum(len(bytes(result)) for result in results.values())


def _dependency_results(turn: Turn, row: TaskRow) -> tuple[dict[str, Raw], list[str]]:
    results: dict[str, Raw] = {}
    omitted: list[str] = []
    size = 0
    for dependency in row.depends_on:
        before = turn.state.tasks.get(dependency.task)
        if before is None or not before.result:
            continue
        name = before.row.key or before.id
        size += len(bytes(before.result))
        if size > INLINE_RESULTS_BYTES_MAX:
            omitted.append(name)
        else:
            results[name] = before.result
    return results, omitted


def traceparent_of(task: Task, attempt: int) -> str:
    """W3C trace context of an attempt: the submitter's trace id, else the root's, and a derived span id."""
    given = task.row.traceparent
    if given is not None and len(given) == 55:
        trace, flags = given[3:35], given[53:55]
    else:
        trace, flags = trace_id_of(task.root), "01"
    span = blake2b(f"attempt/{task.id}/{attempt}".encode(), digest_size=8).hexdigest()
    return f"00-{trace}-{span}-{flags}"


def trace_id_of(root: str) -> str:
    """The trace id of a flow: the bits of its root's UUID, or a digest of another kind of id (32 hex digits)."""
    if len(root) == 36:
        digits = root.replace("-", "")
        if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
            return digits
    return blake2b(root.encode(), digest_size=16).hexdigest()
