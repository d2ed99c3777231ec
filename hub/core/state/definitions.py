"""The definitions that a partition knows, by name and version."""

from functools import lru_cache
from re import compile as pattern

from schemas import DEFAULT_POLICY, DEFAULT_RETRY, Definition, ExecutionPolicy, RetryPolicy, TaskSpec
from schemas.tasks import Delivery, TaskOptions

from ..rows import DefinitionRow

_PARTS = pattern(r"[0-9]+|[^0-9.]+")

#: Versions whose order is kept once it is worked out: with each definition, all versions of its name are compared.
ORDERS_KEPT = 1_024

#: What orders a version: numbers by value, and text before the end of a version, which is before another number.
Order = tuple[tuple[int, int, str], ...]


@lru_cache(ORDERS_KEPT)
def order_of(version: str) -> Order:
    """A key that sorts versions: 1.10 is after 1.9, 2.0 after 2.0-rc1, and 2.0.1 after both."""
    parts = _PARTS.findall(version)
    return (*((2, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts), (1, 0, ""))


def execution_policy(
    retry: RetryPolicy | None, timeout_seconds: float | None, delivery: Delivery | None, options: TaskOptions | None
) -> ExecutionPolicy:
    """What holds: each part is the submission's, else that of `options`, else the default."""
    if options is not None:
        retry = retry or options.retry
        timeout_seconds = timeout_seconds or options.timeout_seconds
        delivery = delivery or options.delivery
    if retry is None and timeout_seconds is None and delivery is None:
        return DEFAULT_POLICY
    return ExecutionPolicy(retry=retry or DEFAULT_RETRY, timeout_seconds=timeout_seconds, delivery=delivery or "at_least_once")


class KnownDefinition:
    """A definition in memory. `policy`: what holds for a submission that gives none of it, worked out once for all of them."""

    __slots__ = ("definition", "id", "policy", "row")

    def __init__(self, row: DefinitionRow) -> None:
        self.row = row
        self.id = row.definition.id
        self.refresh()

    def refresh(self) -> None:
        """The row has changed."""
        self.definition: Definition = self.row.definition
        self.policy = execution_policy(None, None, None, self.definition)

    @property
    def deprecated(self) -> bool:
        """Whether it is the default of its name only where there is no other."""
        return self.row.state == "deprecated"

    def policy_for(self, spec: TaskSpec) -> ExecutionPolicy:
        """What holds for a submission."""
        attempt = None if spec.timeouts is None else spec.timeouts.attempt
        if spec.retry is None and attempt is None and spec.delivery is None:
            return self.policy
        return execution_policy(spec.retry, attempt, spec.delivery, self.row.definition)


class _Versions:
    """The versions of one name. `default`: the highest that is not deprecated; where all are, the highest."""

    __slots__ = ("by_version", "default")

    def __init__(self, first: KnownDefinition) -> None:
        self.by_version: dict[str, KnownDefinition] = {}
        self.default = first

    def put(self, known: KnownDefinition) -> None:
        self.by_version[known.definition.version] = known
        self.default = max(self.by_version.values(), key=lambda one: (not one.deprecated, order_of(one.definition.version)))


class Definitions:
    """All definitions of a partition. Those for one namespace go before those for every namespace."""

    def __init__(self) -> None:
        self._known: dict[str, KnownDefinition] = {}
        self._names: dict[tuple[str | None, str], _Versions] = {}
        self._has_namespaces = False

    def get(self, identifier: str) -> KnownDefinition | None:
        """The definition of an id."""
        return self._known.get(identifier)

    def put(self, row: DefinitionRow) -> KnownDefinition:
        """Take in a row that is new, or that has changed."""
        known = self._known.get(row.definition.id)
        if known is None:
            known = self._known[row.definition.id] = KnownDefinition(row)
        else:
            known.refresh()
        place = (row.definition.namespace, row.definition.name)
        versions = self._names.get(place)
        if versions is None:
            versions = self._names[place] = _Versions(known)
        versions.put(known)
        self._has_namespaces |= row.definition.namespace is not None
        return known

    def find(self, namespace: str, name: str, version: str | None) -> KnownDefinition | None:
        """What a task of this namespace and name means by `version`; by None, the default version."""
        if self._has_namespaces and (found := self._find((namespace, name), version)) is not None:
            return found
        return self._find((None, name), version)

    def _find(self, place: tuple[str | None, str], version: str | None) -> KnownDefinition | None:
        versions = self._names.get(place)
        if versions is None:
            return None
        return versions.default if version is None else versions.by_version.get(version)

    def versions_of(self, namespace: str, name: str) -> list[str]:
        """The versions that tasks of this namespace and name can have, in order."""
        groups = (self._names.get((namespace, name)), self._names.get((None, name)))
        return sorted({version for group in groups if group is not None for version in group.by_version}, key=order_of)

    def in_order(self) -> list[KnownDefinition]:
        """All of them by name, namespace and version."""
        return sorted(self._known.values(), key=_place_of)

    def __len__(self) -> int:
        return len(self._known)


def _place_of(known: KnownDefinition) -> tuple[str, str, Order]:
    definition = known.definition
    return definition.name, definition.namespace or "", order_of(definition.version)
