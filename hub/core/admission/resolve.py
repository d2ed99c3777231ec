"""Which definition holds for a task that is submitted."""

from collections.abc import Iterable

from schemas import TaskSpec, quoted

from ..bounds import REASON_MAX, cut
from ..changes import Changes
from ..rejection import Rejection, TaskRejection
from ..state import KnownDefinition

#: Versions that a rejection names.
NAMED_MAX = 10


def resolve(changes: Changes, namespace: str, spec: TaskSpec, at: str) -> KnownDefinition | TaskRejection | None:
    """The definition that holds for `spec`; None where its name is not known and the task is to wait for it."""
    definitions = changes.state.definitions
    known = definitions.find(namespace, spec.name, spec.version)
    if known is not None:
        return known
    if versions := definitions.versions_of(namespace, spec.name):
        there = ", ".join(versions[-NAMED_MAX:])
        return Rejection(
            "unknown_version", f"{at}version: {quoted(spec.name)} has no version {quoted(str(spec.version))}; it has {there}"
        )
    if namespace in changes.settings.strict_namespaces:
        reason = f"{at}name: no worker has registered {quoted(spec.name)}, and the namespace {quoted(namespace)} is strict"
        return Rejection("unknown_name", reason)
    return None


def warning_of(found: Iterable[tuple[TaskSpec, KnownDefinition | None]]) -> str | None:
    """What a client should know of tasks that are admitted with these definitions; None where there is nothing to say."""
    unknown: dict[str, None] = {}
    deprecated: dict[str, None] = {}
    for spec, known in found:
        if known is None:
            unknown[spec.name] = None
        elif known.deprecated:
            deprecated[known.id] = None
    if not unknown and not deprecated:
        return None
    sentences = []
    if unknown:
        sentences.append(f"no worker has registered {_named(unknown)} yet: it waits until one does")
    if deprecated:
        sentences.append(f"{_named(deprecated)} is deprecated")
    return cut("; ".join(sentences), REASON_MAX)


def _named(names: Iterable[str]) -> str:
    listed = [quoted(name) for name in names]
    return ", ".join(listed[:NAMED_MAX]) + (f" and {len(listed) - NAMED_MAX} more" if len(listed) > NAMED_MAX else "")
