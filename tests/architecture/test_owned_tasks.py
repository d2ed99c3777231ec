"""Every task of an event loop has an owner: an `asyncio.TaskGroup`, or the `ServiceTasks` of a service (`hub/service.py`)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("hub", "schemas", "subscribers") for path in (ROOT / top).rglob("*.py"))
STARTERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
OWNER = "hub/service.py"

#: Functions elsewhere that start a task themselves, and why. Each waits for its task before it returns.
REASONS = {
    "hub/delivery/administration/state.py:_write": "waits for what the service's loop writes; cancels it with itself",
    "hub/delivery/dead_letters.py:put": "waits for what the service's loop sends; cancels it with itself",
    "hub/delivery/thread.py:run": "waits for what another thread's loop runs; cancels it with itself",
    "hub/testing/driver.py:finish": "moves the time while its task runs; cancels it where that does not help",
    "hub/testing/quiet.py:guard": "waits for its task and for the notice that nothing moves; cancels it then",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def starts(call: ast.Call) -> bool:
    """Whether this call starts a task."""
    called = call.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    return name in STARTERS


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


def unowned(tree: ast.AST) -> list[str]:
    """Names of the functions that start a task outside of a group; the innermost function around a call answers for it, and
    `<module>` for a call that stands in none."""
    found: list[str] = []
    seen: set[ast.Call] = set()
    for function in reversed(list(ast.walk(tree))):  # from the inside out
        if isinstance(function, Function | ast.Module):
            owners = groups(function) if isinstance(function, Function) else set()
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and starts(node) and node not in seen]
            seen.update(calls)
            name = function.name if isinstance(function, Function) else "<module>"
            found += [name for one in calls if not in_group(one, owners)]
    return found


def test_every_task_has_an_owner() -> None:
    by_file = {str(path.relative_to(ROOT)): unowned(ast.parse(path.read_text())) for path in SOURCES}
    assert by_file.pop(OWNER), "the search has lost its object"
    found = {f"{path}:{name}" for path, names in by_file.items() for name in names}
    remedy = f"use ServiceTasks of {OWNER}, or an asyncio.TaskGroup"
    assert not found - REASONS.keys(), f"these start tasks themselves ({remedy}): {sorted(found - REASONS.keys())}"
    assert not REASONS.keys() - found, f"not needed any more: {sorted(REASONS.keys() - found)}"


@pytest.mark.parametrize(
    "body",
    [
        "asyncio.create_task(work())",
        "create_task(work())",
        "self._task = loop.create_task(work())",
        "await asyncio.create_task(work())",
        "group = Other()\n    group.create_task(work())",
        "print(asyncio.ensure_future(work()))",
        "asyncio.run_coroutine_threadsafe(work(), loop)",
    ],
)
def test_a_task_without_an_owner_is_found(body: str) -> None:
    assert unowned(ast.parse(f"async def f():\n    {body}\n")) == ["f"]


def test_a_task_that_a_module_starts_is_found() -> None:
    assert unowned(ast.parse("loop.create_task(work())\n")) == ["<module>"]


@pytest.mark.parametrize(
    "body",
    [
        "async with asyncio.TaskGroup() as group:\n        group.create_task(work())",
        "self._tasks.start(work(), 'work')",
        "await work()",
    ],
)
def test_a_task_with_an_owner_passes(body: str) -> None:
    assert unowned(ast.parse(f"async def f():\n    {body}\n")) == []
