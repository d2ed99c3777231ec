"""The policy that holds for the attempts of a task: the submission's, else the registration's, else the default.

It is fixed at the first dispatch, from what the chosen worker registered, and stands in `task.dispatched`; from then on the row
has it. Before that only the submission and the defaults are known.
"""

from schemas import DEFAULT_POLICY, DEFAULT_RETRY, ExecutionPolicy, TaskOptions

from ..rows import TaskRow

NO_OPTIONS = TaskOptions()


def policy_of(row: TaskRow, options: TaskOptions | None = None) -> ExecutionPolicy:
    """What holds for the task of `row`. `options`: the registration of its name with the worker that is about to get it."""
    if row.dispatch:
        return row.policy
    options = options or NO_OPTIONS
    retry = row.retry or options.retry
    timeout = row.timeouts.attempt if row.timeouts and row.timeouts.attempt else options.timeout_seconds
    delivery = row.delivery or options.delivery
    if retry is None and timeout is None and delivery is None:
        return DEFAULT_POLICY
    return ExecutionPolicy(retry=retry or DEFAULT_RETRY, timeout_seconds=timeout, delivery=delivery or "at_least_once")
