"""Rows of tasks that wait only for a time, as columns."""

from typing import Any

from hub.core import EMPTY, DefinitionRow, EndedRow, MetaRow, PartitionState, Task, TaskRow, encode_row, restore, restore_timed
from hub.core.rows.task import Steps, Timers
from hub.core.rows.timed import NUMBER_MAX, TimedRows, divide_rows
from schemas import Definition

DAY_US = 86_400_000_000


def scheduled(due_us: int = DAY_US, **fields: Any) -> TaskRow:
    row: dict[str, Any] = {"name": "mail", "state": "scheduled", "timers": Timers(start=due_us)}
    return TaskRow(run=1, created_at="2026-01-01T00:00:00Z", **{**row, **fields})


def retrying(due_us: int, *, dispatch: int) -> TaskRow:
    return scheduled(name="pay", state="retrying", timers=Timers(start=7, retry=due_us), dispatch=dispatch)


def encoded(rows: dict[str, object]) -> list[tuple[bytes, bytes]]:
    return [encode_row(key.encode(), row) for key, row in rows.items()]


def test_tasks_that_wait_for_one_timer_are_kept_as_columns() -> None:
    rows = encoded({"task/a": scheduled(5), "task/b": retrying(9, dispatch=3), "task/c": scheduled(6)})
    timed, others = divide_rows(rows)
    assert others == {}
    assert timed.ids() == ["a", "b", "c"]
    assert timed.rows == [row for _, row in rows]
    assert [timed.categories[place] for place in timed.places] == [
        ("default", "mail", "scheduled", "default"),
        ("default", "pay", "retrying", "default"),
        ("default", "mail", "scheduled", "default"),
    ]
    assert list(zip(timed.due_us, timed.kinds(), timed.marks, strict=True)) == [(5, "start", 0), (9, "retry", 3), (6, "start", 0)]


def test_all_other_rows_stay_as_they_are() -> None:
    rows = encoded(
        {
            "task/ready": scheduled(state="ready", message='"state":"scheduled"'),
            "task/step": scheduled(root="a"),
            "task/workflow": scheduled(steps=Steps(total=1)),
            "task/expires": scheduled(timers=Timers(start=1, expire=2)),
            "task/limited": scheduled(timers=Timers(start=1, total=0)),
            "task/untimed": scheduled(timers=Timers()),
            "task/far": scheduled(NUMBER_MAX + 1),
            "task/often": retrying(5, dispatch=NUMBER_MAX + 1),
            "task/ended": EndedRow(
                ended="completed", run=1, sequence=3, name="mail", until_us=1, finished_at="", reason="scheduled"
            ),
            "task/é": scheduled(),
            "!meta": MetaRow(offset=1, epoch=1, now_us=1, partitions=1),
            "definition/0/*/mail@1": DefinitionRow(definition=Definition(name="mail"), state="scheduled"),
        }
    )
    rows += [(b"task/\xff", rows[0][1]), (b"task/foreign", b'{"state":"scheduled"'), (b"task/other", b'{"state":"scheduled"}')]
    timed, others = divide_rows(rows)
    assert (len(timed), others) == (0, dict(rows))


def test_replaced_rows_are_left_out_and_columns_of_different_tasks_are_joined() -> None:
    first, _ = divide_rows(encoded({"task/a": scheduled(1), "task/b": retrying(2, dispatch=1), "task/c": scheduled(3)}))
    second, _ = divide_rows(encoded({"task/d": retrying(4, dispatch=2), "task/e": scheduled(5, name="new")}))
    assert first.without({b"task/x", b"args/a", b"task/\xff", b"!meta"}) is first
    left = first.without({b"task/a", b"task/x"})
    assert left.ids() == ["b", "c"]
    joined = TimedRows()
    for part in (left, second):
        joined.extend(part)
    assert list(zip(joined.ids(), joined.due_us, joined.kinds(), joined.marks, strict=True)) == [
        ("b", 2, "retry", 1),
        ("c", 3, "start", 0),
        ("d", 4, "retry", 2),
        ("e", 5, "start", 0),
    ]
    assert [joined.categories[place][1] for place in joined.places] == ["pay", "mail", "pay", "new"]
    assert (len(first), len(second)) == (3, 2)


def test_tasks_restored_from_columns_are_those_restored_from_rows() -> None:
    rows: dict[str, TaskRow] = {"a": scheduled(DAY_US), "b": retrying(DAY_US + 1, dispatch=2), "c": scheduled(3 * DAY_US)}
    timed, _ = divide_rows(encoded({f"task/{task_id}": row for task_id, row in rows.items()}))
    one, other = PartitionState(ended_entries_max=1), PartitionState(ended_entries_max=1)
    restore_timed(one, timed)
    restore(other, [Task(task_id, row, EMPTY) for task_id, row in rows.items()], now_us=0)
    assert {task.id: task.row for task in one.tasks.values()} == {task.id: task.row for task in other.tasks.values()} == rows
    assert (one.tasks.resting, one.live, len(one.agenda)) == (3, 3, 3)
    assert [one.agenda.pop_due(4 * DAY_US, None) for _ in rows] == [other.agenda.pop_due(4 * DAY_US, None) for _ in rows]
