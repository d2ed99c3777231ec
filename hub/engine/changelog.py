"""The changelog rows of a batch."""

from ..core import EMPTY, RESTING, Changes, Task, encode_row, key_of


def rows_of(changes: Changes) -> list[tuple[bytes, bytes | None]]:
    """The changelog of a batch: one row per changed entity, and tombstones for removed ones. Tasks that now wait for long are put
    to rest with their rows."""
    rows: list[tuple[bytes, bytes | None]] = []
    state = changes.state
    for task_id, task in changes.touched.items():
        _side_rows(task, rows)
        key, encoded = encode_row(key_of("task", task_id), task.row)
        rows.append((key, encoded))
        if task.row.state in RESTING:
            state.rest(task, encoded, changes.now_us)
    for task_id, (task, encoded) in changes.retired.items():
        _side_rows(task, rows)
        rows.append((key_of("task", task_id), encoded))
    rows += [(key_of("task", task_id), None) for task_id in changes.gone]
    for incarnation in changes.touched_workers:
        worker = state.worker_rows.get(incarnation)
        key = key_of("worker", incarnation)
        rows.append((key, None) if worker is None else encode_row(key, worker))
    for entity in changes.touched_observed:
        observed = state.observed_rows.get(entity)
        rows.append((entity.encode(), None) if observed is None else encode_row(entity.encode(), observed))
    for identifier in changes.touched_definitions:
        definition = state.definitions.get(identifier)
        assert definition is not None, f"{identifier} is known: it has just changed"
        rows.append(encode_row(key_of("definition", f"{changes.partition}/{identifier}"), definition.row))
    if changes.engine_touched:
        rows.append(encode_row(key_of("engine", str(changes.partition)), state.engine_row))
    return rows


def _side_rows(task: Task, rows: list[tuple[bytes, bytes | None]]) -> None:
    """Separate rows of a task: large arguments until it ends, the plan until all its steps are created."""
    row = task.row
    if task.args_row:
        if task.ended:
            rows.append((key_of("args", task.id), None))
            task.args_row = False
    elif not row.args and not task.ended and task.args is not EMPTY:
        rows.append((key_of("args", task.id), bytes(task.args)))
        task.args_row = True
    plan = task.plan
    if plan is None:
        return
    if task.ended or row.steps.planned >= len(plan.order):
        task.plan = None
        if task.plan_row:
            rows.append((key_of("plan", task.id), None))
            task.plan_row = False
    elif not task.plan_row:
        rows.append(encode_row(key_of("plan", task.id), plan.steps))
        task.plan_row = True
