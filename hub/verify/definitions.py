"""What workers have registered, given the log: what holds for a task is what the definition of its name says (D1), and an attempt
goes only to a worker that announced that definition (D2)."""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Raw, Struct, ValidationError, convert, json

from schemas import DEFAULT_RETRY, Definition, ExecutionPolicy, payload_hash
from schemas.tasks import Delivery, RetryPolicy

from .facts import Fact
from .fold import LiveTask
from .history import LogRecord, headers_of
from .report import Findings

Place = tuple[str | None, str]
"""A namespace (None: every one) and a name."""


class RegisteredVersion(Struct):
    """A version of a name, as one partition knows it."""

    definition: Definition
    deprecated: bool = False


class _Announcement(Struct):
    incarnation: str = ""
    definitions: list[Definition] | None = None


class _Structured(Struct):
    type: str = ""
    data: Raw = Raw(b"{}")
    data_base64: str = ""


_announcement = json.Decoder(_Announcement)
_structured = json.Decoder(_Structured)


def _announced_in(record: LogRecord) -> _Announcement | None:
    """What a report of a worker about itself says, in either form of a CloudEvent; None where the record is not one."""
    value, kind = record.value or b"", headers_of(record).get("ce_type")
    try:
        if kind is None:
            event = _structured.decode(value)
            kind, value = event.type.encode(), b64decode(event.data_base64) if event.data_base64 else bytes(event.data)
        return _announcement.decode(value) if kind.startswith(b"worker.") else None
    except (ValueError, RecursionError):
        return None


class DefinitionBook:
    """Definitions by partition, as the events say (D1), and who announced them, as the intake says (D2). `intake_starts`: where
    the partitions of the intake begin."""

    def __init__(self, intake_starts: Mapping[int, int]) -> None:
        self._intake_starts = dict(intake_starts)
        self._gaps: set[int] = set()
        self._known: dict[int, dict[Place, dict[str, RegisteredVersion]]] = {}
        self._rows: dict[str, RegisteredVersion] = {}
        self._announced: dict[tuple[int, str], set[tuple[str | None, str, str]]] = {}
        self._joined: dict[tuple[int, str], int] = {}
        self._given: dict[tuple[int, str], set[tuple[str, str, str]]] = {}

    # Events

    def take(self, fact: Fact) -> str | None:
        """An event of a definition; returns what is wrong with it."""
        data = fact.data
        names = self._known.setdefault(fact.partition, {})
        if fact.type == "definition.registered":
            definition: Definition = data.definition
            if fact.id != f"{fact.partition}/{definition.id}":
                return f"registers {definition.id}"
            versions = names.setdefault((definition.namespace, definition.name), {})
            before = versions.get(definition.version)
            if before is not None and before.definition == definition:
                return "registered again, and nothing has changed"
            known = RegisteredVersion(definition, before is not None and before.deprecated)
            versions[definition.version] = self._rows[fact.entity] = known
            return None
        known_version = names.get((data.namespace, data.name), {}).get(data.version)
        if known_version is None or known_version.deprecated:
            return "deprecated, and nobody has registered it" if known_version is None else "deprecated twice"
        known_version.deprecated = True
        return None

    def forget(self, partition: int) -> None:
        """What was known of a partition is out of date."""
        self._known.pop(partition, None)
        self._rows = {entity: known for entity, known in self._rows.items() if not entity.startswith(f"definition/{partition}/")}

    def check_created(self, fact: Fact) -> Iterator[str]:
        """D1, of a task.created whose partition's log is whole."""
        data, namespace = fact.data, fact.namespace or ""
        if data.steps_total:
            if data.unresolved or data.policy != ExecutionPolicy():
                yield "a workflow's root has no body, and so no definition"
            return
        versions = list(self._versions_of(fact.partition, namespace, data.name))
        if data.unresolved:
            from_plan = fact.due_ms >= 0  # The name may have become known since the workflow was admitted.
            if versions and not (from_plan and self._find(fact.partition, namespace, data.name, data.version) is None):
                yield f"unresolved, although version {versions[0].definition.version} is known"
            return
        attempt = data.timeouts.attempt if data.timeouts is not None else None
        yield from self._check(fact, namespace, data.name, data.version, data.retry, attempt, data.delivery, data.policy)
        if len(versions) > 1 and data.payload_hash == payload_hash(data.name, None, _canonical(data.args)):
            yield from self._check_default(fact.partition, namespace, data.name, data.version)

    def check_fixed(self, fact: Fact, task: LiveTask) -> Iterator[str]:
        """D1, of the first dispatch of a task that was unresolved."""
        policy, given, namespace = task.policy, task.given, task.namespace or ""
        retry = policy.retry if "retry" in given else None
        delivery = policy.delivery if "delivery" in given else None
        version = fact.data.version
        yield from self._check(fact, namespace, task.name, version, retry, policy.timeout_seconds, delivery, fact.data.policy)
        if task.version is None:
            yield from self._check_default(fact.partition, namespace, task.name, version)
        elif task.version != version:
            yield f"version {version}; the submission named {task.version}"

    def _check(
        self,
        fact: Fact,
        namespace: str,
        name: str,
        version: str | None,
        retry: RetryPolicy | None,
        timeout_seconds: float | None,
        delivery: Delivery | None,
        policy: ExecutionPolicy,
    ) -> Iterator[str]:
        known = self._find(fact.partition, namespace, name, version)
        if known is None:
            yield f"version {version} of {name}, which nobody has registered"
            return
        said = known.definition
        expected = ExecutionPolicy(
            retry=retry or said.retry or DEFAULT_RETRY,
            timeout_seconds=timeout_seconds or said.timeout_seconds,
            delivery=delivery or said.delivery or "at_least_once",
        )
        if policy != expected:
            yield f"the policy is {policy}; by its submission and {said.id} it is {expected}"

    def _check_default(self, partition: int, namespace: str, name: str, version: str | None) -> Iterator[str]:
        for place in ((namespace, name), (None, name)):
            versions = self._known.get(partition, {}).get(place)
            if versions:
                usable = [one for one, known in versions.items() if not known.deprecated] or list(versions)
                wanted = max(usable, key=_order_of)
                if version != wanted:
                    yield f"version {version}; the default version of {name} is {wanted}"
                return

    def _versions_of(self, partition: int, namespace: str, name: str) -> Iterator[RegisteredVersion]:
        for place in ((namespace, name), (None, name)):
            yield from self._known.get(partition, {}).get(place, {}).values()

    def _find(self, partition: int, namespace: str, name: str, version: str | None) -> RegisteredVersion | None:
        return next(
            (known for known in self._versions_of(partition, namespace, name) if known.definition.version == version), None
        )

    # Rows

    def difference(self, entity: str, row: Mapping[str, Any]) -> str | None:
        """How the row of a definition differs from its events; None where it does not, or these are not known."""
        known = self._rows.get(entity)
        if known is None:
            return None
        try:
            definition = convert(row.get("definition"), Definition)
        except ValidationError as error:
            return f"the row has no definition: {error}"
        if definition != known.definition:
            return f"the row says {definition}, the log {known.definition}"
        state = "deprecated" if known.deprecated else "active"
        return None if row.get("state") == state else f"the row is {row.get('state')!r}, by the events {state!r}"

    # Workers

    def registered(self, fact: Fact) -> None:
        """A worker was registered: where its first report is in the intake."""
        if fact.sequence == 1:
            self._joined.setdefault((fact.partition, fact.id), fact.input_offset)

    def expect(self, fact: Fact, task: LiveTask) -> None:
        """A task was dispatched: its worker must have announced the version."""
        if not task.partial and task.version is not None:
            place = fact.partition, fact.data.worker
            self._given.setdefault(place, set()).add((task.namespace or "", task.name, task.version))

    def intake_record(self, partition: int, record: LogRecord) -> None:
        """A record of the intake: what a worker reports of itself."""
        report = _announced_in(record)
        if report is not None and report.definitions:
            announced = self._announced.setdefault((partition, report.incarnation), set())
            announced.update((one.namespace, one.name, one.version) for one in report.definitions)

    def removed(self, partition: int) -> None:
        """Records of the intake that come next were deleted: what was announced there is not known."""
        self._gaps.add(partition)

    def findings(self, found: Findings) -> None:
        """D2. If the beginning of the intake was removed, only workers whose first report is in the rest are checked."""
        for (partition, worker), given in self._given.items():
            announced = self._announced.get((partition, worker))
            start = self._intake_starts.get(partition, 0)
            if partition in self._gaps or (start > 0 and self._joined.get((partition, worker), -1) < start):
                continue
            for namespace, name, version in sorted(given):
                if not {(namespace, name, version), (None, name, version)} & (announced or set()):
                    message = f"{name} in version {version} was dispatched to it, and it never announced that"
                    found.add("D2", message, partition=partition, subject=f"worker/{worker}")


def _canonical(args: Any) -> bytes:
    return json.encode(json.decode(args), order="sorted")


def _order_of(version: str) -> list[tuple[int, int, str]]:
    """Numbers by value, and text before the end of a version, which is before another number."""
    parts: Iterable[str] = re.findall(r"[0-9]+|[^0-9.]+", version)
    return [*((2, int(part), "") if re.fullmatch("[0-9]+", part) else (0, 0, part) for part in parts), (1, 0, "")]
