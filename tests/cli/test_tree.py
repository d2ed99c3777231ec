"""The tree of a workflow is a fold of its events; the list is the last row of each key."""

from rich.console import Console

from hub.cli.listing import fits, listed_task
from hub.cli.tree import STEPS_SHOWN_MAX, TreeView
from schemas import ExecuteAttempt
from tests.engine.harness import SECOND, World

WORKER = {
    "incarnation": "w1",
    "pool": "default",
    "inbox": 3,
    "queues": ["default"],
    "definitions": [{"name": "a"}],
    "slots": 9,
    "credit": 9,
}


def report(world: World, kind: str, command: ExecuteAttempt, **fields: object) -> None:
    """What the worker says of an attempt."""
    about = {name: getattr(command, name) for name in ("task", "root", "attempt", "dispatch", "token")}
    world.put(kind, {**about, "incarnation": "w1", "number": 1, **fields})


def diamond(world: World) -> list[ExecuteAttempt]:
    """A diamond whose first step was dispatched; the commands."""
    world.put("worker.registered", WORKER)
    world.put(
        "task.created",
        {
            "name": "order",
            "id": "root",
            "tasks": {
                "first": {"name": "a"},
                "left": {"name": "a", "depends_on": ["first"]},
                "right": {"name": "a", "depends_on": ["first"]},
                "last": {"name": "a", "depends_on": ["left", "right"], "start_after": 5},
            },
        },
    )
    return dispatched(world)


def dispatched(world: World) -> list[ExecuteAttempt]:
    """Decide what lies in the intake; the attempts that this began."""
    return [command.data for command in world.step().commands if isinstance(command.data, ExecuteAttempt)]


def view_of(world: World, task: str = "root") -> TreeView:
    """The view after all events so far."""
    view = TreeView(task)
    for event in world.events:
        if task in (event.subject, event.rootid):
            view.take(event)
    return view


def text_of(view: TreeView) -> str:
    """The tree as text."""
    console = Console(width=150, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(view.tree(view.now))
    return capture.get()


def test_a_step_hangs_below_the_last_step_it_waits_for_and_names_the_others() -> None:
    world = World()
    diamond(world)
    lines = text_of(view_of(world)).splitlines()
    assert "order" in lines[0]
    assert [line.strip("│├└─ ").split()[1] for line in lines[1:]] == ["first", "left", "right", "last"]
    depth = {line.strip("│├└─ ").split()[1]: len(line) - len(line.lstrip("│├└─ ")) for line in lines[1:]}
    assert depth["first"] < depth["left"] == depth["right"] < depth["last"]
    assert "also after left" in lines[-1]


def test_states_attempts_progress_and_errors_are_told() -> None:
    world = World()
    (first,) = diamond(world)
    report(world, "attempt.completed", first, result=1)
    left, right = dispatched(world)
    report(world, "attempt.progressed", left, percent=40, message="half way")
    report(world, "attempt.failed", right, error={"type": "Busy", "message": "come again"})
    world.step()
    view = view_of(world)
    by_key = {task.label: task for task in view.steps()}
    assert by_key["first"].state == "completed"
    assert by_key["left"].percent == 40
    assert by_key["right"].state == "retrying"
    assert "40 %" in view.line(by_key["left"])
    assert "Busy: come again" in view.line(by_key["right"])
    assert view.state == "running"


def test_a_large_workflow_is_told_in_counts() -> None:
    world = World()
    world.put("worker.registered", WORKER)
    steps = {f"s{number}": {"name": "a"} for number in range(STEPS_SHOWN_MAX + 60)}
    world.put("task.created", {"name": "many", "id": "root", "tasks": steps})
    world.step()
    text = text_of(view_of(world))
    assert f"{len(steps)} steps: 9 dispatched, {len(steps) - 9} ready" in text
    assert len(text.splitlines()) < 5


def test_before_its_first_event_the_tree_says_so() -> None:
    view = TreeView("root")
    assert "waiting" in text_of(view)
    assert view.state == ""


def test_the_list_has_live_and_ended_tasks() -> None:
    world = World()
    (first,) = diamond(world)
    report(world, "attempt.completed", first, result=1)
    world.put("task.created", {"name": "solo", "id": "solo", "start_after": 100.0})
    world.step()
    world.put("task.cancel", {"id": "solo", "reason": "no more"})
    world.step()
    listed = {task.id: task for task in (listed_task(k, v, 0) for k, v in world.rows.items() if k.startswith(b"task/"))}
    assert (listed["root"].state, listed["root"].live, listed["root"].remark) == ("running", True, "1 of 4 steps ended")
    assert (listed["solo"].state, listed["solo"].live, listed["solo"].remark) == ("cancelled", False, "no more")
    assert sum(task.root == "root" for task in listed.values()) == 4
    assert fits(listed["solo"], state="cancelled", name="s*")
    assert not fits(listed["solo"], state="running", name=None)
    assert not fits(listed["root"], state=None, name="s*")


def test_how_long_it_took_is_what_the_worker_measured_where_start_and_end_came_together() -> None:
    world = World()
    (first,) = diamond(world)
    report(world, "attempt.completed", first, result=1, ran_seconds=0.125)
    world.step()
    listed = {task.id: task.seconds for task in (listed_task(k, v, 0) for k, v in world.rows.items() if k.startswith(b"task/"))}
    assert listed[first.task] == 0.125
    (step,) = [task for task in view_of(world).steps() if task.id == first.task]
    assert step.seconds() == 0.125
    assert "first (a) completed 125 ms" in text_of(view_of(world))


def test_how_long_several_attempts_took_counts_from_the_first_start() -> None:
    world = World()
    (first,) = diamond(world)
    report(world, "attempt.failed", first, error={"type": "E"}, ran_seconds=0.5)
    world.step()
    again: list[ExecuteAttempt] = []
    while not again:
        world.now_us += SECOND // 10
        again = dispatched(world)
    report(world, "attempt.completed", again[0], result=1, ran_seconds=0.125)
    world.step()
    (step,) = [task for task in view_of(world).steps() if task.id == first.task]
    assert step.attempt == 2
    assert (step.seconds() or 0.0) > 0.8
