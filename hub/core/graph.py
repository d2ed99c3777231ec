"""Graphs of tasks: checking a submitted plan, and the order in which its nodes are made.

A node depends on nodes of the same graph, by key (or, when nodes are added later, by key or task id of what exists).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas import Dependency, TaskSpec, check_id
from schemas.tasks import DEPTH_MAX, EDGES_MAX, FAN_OUT_MAX, NODES_MAX

from .rejection import Rejection, TaskRejection


class Plan(NamedTuple):
    """A checked graph: its nodes by key, and the keys in an order in which every node follows what it depends on."""

    nodes: Mapping[str, TaskSpec]
    order: tuple[str, ...]


def dependency_of(entry: str | Dependency) -> Dependency:
    """The long form of an entry of `depends_on`."""
    return Dependency(task=entry) if isinstance(entry, str) else entry


def check_plan(nodes: Mapping[str, TaskSpec], exists: Callable[[str], bool] | None = None) -> Plan | TaskRejection:
    """The plan of `nodes`, or why there is none (missing or repeated references, cycles, limits). `exists` says which keys or
    ids outside `nodes` may be depended on. Kahn's algorithm, stable in the order of submission: O(nodes + edges)."""
    if not nodes:
        return Rejection("invalid_input", "tasks: a graph needs at least one task")
    if len(nodes) > NODES_MAX:
        return Rejection("limit_exceeded", f"tasks: {len(nodes)} nodes, more than {NODES_MAX}")
    dependents: dict[str, list[str]] = {key: [] for key in nodes}
    unmet: dict[str, int] = {}
    edges = 0
    for key, node in nodes.items():
        if (problem := check_id(key, f"tasks: the key {key[:40]!r}")) is not None:
            return Rejection("invalid_input", problem)
        inside = 0
        seen: set[str] = set()
        for entry in node.depends_on:
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
                return Rejection("unknown_dependency", f"{field}: there is no task {dependency.task!r} in this graph")
            edges += 1
        unmet[key] = inside
    if edges > EDGES_MAX:
        return Rejection("limit_exceeded", f"tasks: {edges} dependencies, more than {EDGES_MAX}")
    widest = max(dependents, key=lambda key: len(dependents[key]))
    if len(dependents[widest]) > FAN_OUT_MAX:
        return Rejection(
            "limit_exceeded", f"tasks: {len(dependents[widest])} tasks depend on {widest!r}, more than {FAN_OUT_MAX}"
        )
    return _in_order(nodes, dependents, unmet)


def _in_order(nodes: Mapping[str, TaskSpec], dependents: dict[str, list[str]], unmet: dict[str, int]) -> Plan | TaskRejection:
    order: list[str] = [key for key in nodes if unmet[key] == 0]
    depth = dict.fromkeys(order, 1)
    for key in order:  # Grows while it is walked.
        for dependent in dependents[key]:
            unmet[dependent] -= 1
            depth[dependent] = max(depth.get(dependent, 0), depth[key] + 1)
            if unmet[dependent] == 0:
                order.append(dependent)
    if len(order) < len(nodes):
        return Rejection("cycle", "tasks: these depend on each other in a circle: " + " -> ".join(_cycle(nodes, unmet)))
    if (deepest := max(depth.values())) > DEPTH_MAX:
        return Rejection("limit_exceeded", f"tasks: a chain of {deepest} dependencies, longer than {DEPTH_MAX}")
    return Plan(nodes, tuple(order))


def _cycle(nodes: Mapping[str, TaskSpec], unmet: dict[str, int]) -> list[str]:
    key = next(key for key in nodes if unmet[key] > 0)
    path: list[str] = []
    while key not in path:
        path.append(key)
        key = next(name for entry in nodes[key].depends_on if unmet.get(name := dependency_of(entry).task, 0) > 0)
    circle = path[path.index(key) :] + [key]
    return [*circle[:10], "...", circle[-1]] if len(circle) > 12 else circle
