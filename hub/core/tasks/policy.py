"""The policy for the attempts of a task: from the submission, else from the registration, else the default.

It is fixed at the first dispatch with the options that the chosen worker registered; `task.dispatched` and from then on the
row contain it. Before that, only submission and defaults are known.
"""

from schemas import DEFAULT_POLICY, DEFAULT_RETRY, ExecutionPolicy, TaskOptions

from ..rows import TaskRow

NO_OPTIONS = TaskOptions()


def policy_of(row: TaskRow, options: TaskOptions | None = None) -> ExecutionPolicy:
    """The policy for the task of `row`. `options`: the worker's registered options for the name of the task."""
    if row.dispatch:
        return row.policy
    options = options or NO_OPTIONS
    retry = row.retry or options.retry
    timeout = row.timeouts.attempt if row.timeouts and row.timeouts.attempt else options.timeout_seconds
    delivery = row.delivery or options.delivery
    if retry is None and timeout is None and delivery is None:
        return DEFAULT_POLICY
    return ExecutionPolicy(retry=retry or DEFAULT_RETRY, timeout_seconds=timeout, delivery=delivery or "at_least_once")
