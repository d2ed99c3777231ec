"""Reads the definitions of all partitions from `hub.state` and merges them to one list."""

from fnmatch import fnmatchcase

from msgspec import Struct

from schemas.tasks import TaskOptions

from ..core import DefinitionRow, Definitions, decode_row
from ..kafka import Cluster, describe_partitions
from .state_rows import latest_rows


class ListedDefinition(Struct, kw_only=True):
    """One line of the list. `partitions`: how many of the hub's partitions (`of`) have it. If they differ, the latest
    registration is shown, and `deprecated` if it is deprecated on any of them. `default`: it applies to submissions without a
    version."""

    name: str
    version: str
    namespace: str | None
    state: str
    default: bool
    options: TaskOptions
    worker: str
    registered_at: str
    deprecated_at: str | None = None
    reason: str = ""
    by: str | None = None
    partitions: int = 0
    of: int = 0


async def read_definitions(cluster: Cluster, *, name: str | None = None) -> list[ListedDefinition]:
    """The registered definitions whose name matches the pattern `name`, sorted by name, namespace and version. Records that are
    not rows of definitions are skipped. Raises Unreachable, TopicMissing."""
    rows: dict[str, list[DefinitionRow]] = {}
    partitions = await describe_partitions(cluster)
    for partition in range(partitions):
        for key, value in (await latest_rows(cluster, partition, "definition")).items():
            row = _row_of(key, value)
            if row is not None and (name is None or fnmatchcase(row.definition.name, name)):
                rows.setdefault(row.definition.id, []).append(row)
    return listed(rows, partitions)


def listed(rows: dict[str, list[DefinitionRow]], partitions: int) -> list[ListedDefinition]:
    """The list for the rows of all partitions, by definition id."""
    known = Definitions()
    for found in rows.values():
        known.put(max(found, key=lambda row: (row.state == "deprecated", row.registered_at)))
    lines = []
    for one in known.in_order():
        row, definition = one.row, one.definition
        default = known.find(definition.namespace or "", definition.name, None)
        lines.append(
            ListedDefinition(
                name=definition.name,
                version=definition.version,
                namespace=definition.namespace,
                state=row.state,
                default=default is one,
                options=definition,
                worker=row.worker,
                registered_at=row.registered_at,
                deprecated_at=row.deprecated_at,
                reason=row.reason,
                by=row.by,
                partitions=len(rows[one.id]),
                of=partitions,
            )
        )
    return lines


def _row_of(key: bytes, value: bytes) -> DefinitionRow | None:
    try:
        entry = decode_row(key, value)
    except (ValueError, RecursionError):
        return None
    return entry.row if entry is not None and isinstance(entry.row, DefinitionRow) else None
