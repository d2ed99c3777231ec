"""The policy that holds for the attempts of a task: the submission's, else the definition's, else the default.

It is fixed when the task is created, and stands in `task.created`. Where no worker had registered the name by then, it is fixed
at the first dispatch, and stands in `task.dispatched`; before that only the submission and the defaults are known.
"""

from schemas import Definition, ExecutionPolicy

from ..rows import TaskRow
from ..state.definitions import execution_policy


def policy_of(row: TaskRow, definition: Definition | None = None) -> ExecutionPolicy:
    """What holds for the task of `row`. `definition`: of its name, where the task is about to be dispatched."""
    if not row.unresolved:
        return row.policy
    attempt = None if row.timeouts is None else row.timeouts.attempt
    return execution_policy(row.retry, attempt, row.delivery, definition)
