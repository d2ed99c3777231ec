"""Checks the graph of a submitted workflow, and computes the order in which its steps are created.

A step refers to steps of the same graph by key; a step added later may also refer to existing steps by task id.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas import Dependency, TaskSpec, check_id
from schemas.tasks import DEPTH_MAX, EDGES_MAX, FAN_OUT_MAX, STEPS_MAX

from .rejection import Rejection, TaskRejection


class Plan(NamedTuple):
    """A checked graph: its steps by key, and the keys in topological order."""

    steps: Mapping[str, TaskSpec]
    order: tuple[str, ...]


def dependency_of(entry: str | Dependency) -> Dependency:
    """An entry of `depends_on` as a `Dependency`."""
    return Dependency(task=entry) if isinstance(entry, str) else entry


def check_plan(steps: Mapping[str, TaskSpec], exists: Callable[[str], bool] | None = None) -> Plan | TaskRejection:
    """Check `steps` and return their plan, or a rejection (unknown or repeated dependencies, cycles, limits). `exists` tells
    whether a key or id outside `steps` is a valid dependency. Kahn's algorithm, stable in the order of submission: O(steps +
    edges)."""
    if not steps:
        return Rejection("invalid_input", "tasks: a workflow needs at least one step")
    if len(steps) > STEPS_MAX:
        return Rejection("limit_exceeded", f"tasks: must have at most {STEPS_MAX} steps, got {len(steps)}")
    dependents: dict[str, list[str]] = {key: [] for key in steps}
    unmet: dict[str, int] = {}
    edges = 0
    for key, step in steps.items():
        if (problem := check_id(key, f"tasks: the key {key[:40]!r}")) is not None:
            return Rejection("invalid_input", problem)
        inside = 0
        seen: set[str] = set()
        for entry in step.depends_on:
            dependency = dependency_of(entry)
            field = f"tasks.{key}.depends_on"
            if dependency.task == key:
                return Rejection("cycle", f"{field}: {key!r} depends on itself")
            if dependency.task in seen:
                return Rejection("invalid_input", f"{field}: {dependency.task!r} is listed twice")
            seen.add(dependency.task)
            if dependency.task in dependents:
                dependents[dependency.task].append(key)
                inside += 1
            elif exists is None or not exists(dependency.task):
                return Rejection("unknown_dependency", f"{field}: the workflow has no step {dependency.task!r}")
            edges += 1
        unmet[key] = inside
    if edges > EDGES_MAX:
        return Rejection("limit_exceeded", f"tasks: must have at most {EDGES_MAX} dependencies, got {edges}")
    widest = max(dependents, key=lambda key: len(dependents[key]))
    if len(dependents[widest]) > FAN_OUT_MAX:
        return Rejection(
            "limit_exceeded",
            f"tasks: at most {FAN_OUT_MAX} steps may depend on one step, but {len(dependents[widest])} depend on {widest!r}",
        )
    return _in_order(steps, dependents, unmet)


def _in_order(steps: Mapping[str, TaskSpec], dependents: dict[str, list[str]], unmet: dict[str, int]) -> Plan | TaskRejection:
    order: list[str] = [key for key in steps if unmet[key] == 0]
    depth = dict.fromkeys(order, 1)
    for key in order:  # grows during the iteration
        for dependent in dependents[key]:
            unmet[dependent] -= 1
            depth[dependent] = max(depth.get(dependent, 0), depth[key] + 1)
            if unmet[dependent] == 0:
                order.append(dependent)
    if len(order) < len(steps):
        return Rejection("cycle", "tasks: these steps form a dependency cycle: " + " -> ".join(_cycle(steps, unmet)))
    if (deepest := max(depth.values())) > DEPTH_MAX:
        return Rejection("limit_exceeded", f"tasks: a chain of dependencies must have at most {DEPTH_MAX} steps, got {deepest}")
    return Plan(steps, tuple(order))


def _cycle(steps: Mapping[str, TaskSpec], unmet: dict[str, int]) -> list[str]:
    key = next(key for key in steps if unmet[key] > 0)
    path: list[str] = []
    while key not in path:
        path.append(key)
        key = next(name for entry in steps[key].depends_on if unmet.get(name := dependency_of(entry).task, 0) > 0)
    circle = path[path.index(key) :] + [key]
    return [*circle[:10], "...", circle[-1]] if len(circle) > 12 else circle
