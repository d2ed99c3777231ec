"""Every task of an event loop has an owner: what starts one keeps it, awaits or cancels it, and sees its failure."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("hub", "schemas", "subscribers") for path in (ROOT / top).rglob("*.py"))
STARTERS = {"create_task", "ensure_future"}

#: Functions that start a task and neither keep it nor wait for it, and why.
REASONS = {
    "hub/cli/create.py:_outcome": "prints a hint while the command waits for the reply, and is cancelled with it",
    "hub/cli/up.py:main": "prints one line when a signal comes, and is cancelled when the supervisor has ended",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def starts(node: ast.AST) -> bool:
    """Whether this is a call that starts a task, and the caller has to own it: a TaskGroup owns its own."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Name):
        return called.id in STARTERS
    return isinstance(called, ast.Attribute) and called.attr in STARTERS


def groups(function: Function) -> set[str]:
    """Names that are bound to an `asyncio.TaskGroup()` by `async with`."""
    items = [item for node in ast.walk(function) if isinstance(node, ast.AsyncWith) for item in node.items]
    return {
        item.optional_vars.id
        for item in items
        if isinstance(item.optional_vars, ast.Name) and ast.unparse(item.context_expr).endswith("TaskGroup()")
    }


def in_group(call: ast.Call, owners: set[str]) -> bool:
    return isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id in owners


def parents_of(function: Function) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}


def target_of(call: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.expr | None:
    """What the task is assigned to, also inside of a list or table of tasks."""
    node: ast.AST | None = call
    while node is not None and not isinstance(node, ast.stmt):
        node = parents.get(node)
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and call in node.value.elts:
            return target.elts[node.value.elts.index(call)]
        return target
    return node.target if isinstance(node, ast.AnnAssign) else None


def is_kept(call: ast.AST, function: Function) -> bool:
    """Awaited, returned, passed to a collection, or bound: to an attribute, or to a name that is used for more than `cancel`."""
    parents = parents_of(function)
    parent = parents.get(call)
    if isinstance(parent, ast.Await | ast.Return):
        return True
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) and parent.func.attr in ("add", "append"):
        return True
    target = target_of(call, parents)
    return isinstance(target, ast.Attribute) or (isinstance(target, ast.Name) and is_looked_at(target.id, function, parents))


def is_looked_at(name: str, function: Function, parents: dict[ast.AST, ast.AST]) -> bool:
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
    uses = [parents[node] for node in names if isinstance(node.ctx, ast.Load)]
    return any(not isinstance(use, ast.Attribute) or use.attr != "cancel" for use in uses)


def unowned(tree: ast.AST) -> list[str]:
    """Names of the functions that start a task which nobody owns; the innermost function around a call answers for it."""
    found: list[str] = []
    seen: set[ast.AST] = set()
    for function in reversed(list(ast.walk(tree))):  # from the inside out
        if isinstance(function, Function):
            owners = groups(function)
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and starts(node) and node not in seen]
            seen.update(calls)
            found += [function.name for one in calls if not in_group(one, owners) and not is_kept(one, function)]
    return found


def test_every_task_has_an_owner() -> None:
    found = {f"{path.relative_to(ROOT)}:{name}" for path in SOURCES for name in unowned(ast.parse(path.read_text()))}
    assert not found - REASONS.keys(), f"these start tasks that nobody awaits or watches: {sorted(found - REASONS.keys())}"
    assert not REASONS.keys() - found, f"not needed any more: {sorted(REASONS.keys() - found)}"


@pytest.mark.parametrize(
    "body",
    [
        "asyncio.create_task(work())",
        "create_task(work())",
        "loop.create_task(work()).add_done_callback(done)",
        "task = loop.create_task(work())",
        "_ = loop.create_task(work())",
        "task = loop.create_task(work())\n    task.cancel()",
        "group = Other()\n    group.create_task(work())",
        "print(asyncio.ensure_future(work()))",
    ],
)
def test_a_task_without_an_owner_is_found(body: str) -> None:
    assert unowned(ast.parse(f"async def f():\n    {body}\n")) == ["f"]


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.create_task(work())",
        "return loop.create_task(work())",
        "self._task = loop.create_task(work())",
        "self._tasks = [loop.create_task(work()) for _ in range(3)]",
        "self._tasks.append(loop.create_task(work()))",
        "task = loop.create_task(work())\n    task.add_done_callback(self._over)",
        "a, b = loop.create_task(work()), 1\n    await a",
        "async with asyncio.TaskGroup() as group:\n        group.create_task(work())",
    ],
)
def test_a_task_with_an_owner_passes(body: str) -> None:
    assert unowned(ast.parse(f"async def f():\n    {body}\n")) == []
