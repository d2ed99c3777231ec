"""Bugs that were once there, or might be: each puts itself back into the code, and some seed must find it."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.broker.log import PartitionLog
from hub.broker.pending import Pending
from hub.broker.timing import Deferred
from hub.broker.transactions import TransactionCoordinator
from hub.core.routing import misrouted
from hub.core.state import LiveWorker
from hub.core.workflows.dependencies import place
from hub.engine.partition import EnginePartition
from hub.engine.rebuilding import RestoredRows
from hub.engine.restoring import Changelog, _Folded
from hub.engine.snapshots import Place, Snapshot
from hub.protocol import ErrorCode
from hub.worker.recent import RecentTokens
from schemas import events as e
from schemas import parts_of_definition

Bug = Callable[[pytest.MonkeyPatch], None]


def output_without_its_input_offset(patch: pytest.MonkeyPatch) -> None:
    """A batch is committed with the input offset of the batch before it."""
    meta = EnginePartition._meta

    def stale(self: Any) -> Any:
        offset = self.offset
        self.offset, self._decided = getattr(self, "_decided", offset), offset
        try:
            return meta(self)
        finally:
            self.offset = offset

    patch.setattr(EnginePartition, "_meta", stale)


def snapshot_not_continued(patch: pytest.MonkeyPatch) -> None:
    """What was committed after a snapshot is not read."""
    fold = Changelog._fold

    async def the_snapshot_alone(self: Changelog, known: Snapshot | None, check: Any = None) -> Any:
        if known is None:
            return await fold(self, known, check)
        return _Folded(known, Place(known.last, known.mark), known.written_us, {}, 0)

    patch.setattr(Changelog, "_fold", the_snapshot_alone)


def unsynced_write_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """The answer to a write does not wait for the disk."""

    def at_once(self: Pending, value: Any) -> Deferred:
        answer = Deferred()
        answer.resolve(value)
        self.on_flush_needed(True)
        return answer

    patch.setattr(Pending, "when_stable", at_once)


def unsynced_write_visible(patch: pytest.MonkeyPatch) -> None:
    """Readers outside the broker's process see what is not on disk."""
    visible_end = PartitionLog.visible_end

    def whole(self: PartitionLog, *, committed: bool, unsynced: bool = False) -> int:
        return visible_end(self, committed=committed, unsynced=True)

    patch.setattr(PartitionLog, "visible_end", whole)


def fence_ignored(patch: pytest.MonkeyPatch) -> None:
    """A former owner may still write."""

    def believed(self: Any, transactional_id: str, producer_id: int, epoch: int) -> Any:
        return ErrorCode.NONE, self._by_id.get(transactional_id)

    patch.setattr(TransactionCoordinator, "check", believed)
    patch.setattr(PartitionLog, "check_producer", lambda self, header: (ErrorCode.NONE, None))


def open_transactions_survive_a_crash(patch: pytest.MonkeyPatch) -> None:
    """What was open when the broker ended stays open."""
    patch.setattr(TransactionCoordinator, "resolve_after_restart", lambda self, clean: None)


def lease_never_ends(patch: pytest.MonkeyPatch) -> None:
    """A worker that is silent is waited for."""
    patch.setattr("hub.engine.partition.expire_leases", lambda changes: None)


def heartbeats_renew_no_lease(patch: pytest.MonkeyPatch) -> None:
    """A worker is lost one lease after its first report."""
    update = LiveWorker.update

    def renewed_once(self: LiveWorker, report: Any, now_us: int) -> None:
        before = self.last_report_us
        update(self, report, now_us)
        self.last_report_us = before

    patch.setattr(LiveWorker, "update", renewed_once)


def forwarded_report_decided_here_too(patch: pytest.MonkeyPatch) -> None:
    """A report on the wrong partition is forwarded, and decided where it lies."""

    def both(changes: Any, envelope: Any, root: str) -> bool:
        misrouted(changes, envelope, root)
        return False

    patch.setattr("hub.core.requests.misrouted", both)


def command_accepted_twice(patch: pytest.MonkeyPatch) -> None:
    """A desk does not remember which attempts have ended."""
    patch.setattr(RecentTokens, "__contains__", lambda self, token: False)


def step_waits_for_what_has_ended(patch: pytest.MonkeyPatch) -> None:
    """A step that is added when its dependencies have ended waits for them all the same."""

    def blocked(changes: Any, task: Any) -> None:
        if task.row.depends_on:
            changes.apply(task, e.TaskBlocked(unmet=len(task.row.depends_on)))
        else:
            place(changes, task)

    patch.setattr("hub.core.requests.place", blocked)


def grant_not_awaited(patch: pytest.MonkeyPatch) -> None:
    """A body that may run once runs before it is granted."""

    async def granted(self: Any, body: Any, event: Any) -> bool:
        await self._reporting.start(body.attempt)
        return True

    patch.setattr("hub.worker.bodies.Bodies._is_granted", granted)


def version_ignored(patch: pytest.MonkeyPatch) -> None:
    """A worker gets every version of the names that it knows."""

    def any_version(self: Any, one: Any) -> bool:
        namespace, name, _ = parts_of_definition(one)
        return any(parts_of_definition(other)[:2] == (namespace, name) for other in list(self))

    class Lenient(frozenset[str]):
        __contains__ = any_version

    def update(self: Any, report: Any, now_us: int) -> None:
        whole(self, report, now_us)
        self.definitions = Lenient(self.definitions)

    whole = LiveWorker.update
    patch.setattr(LiveWorker, "update", update)


def definitions_forgotten_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A new owner does not know what was registered with the former one."""
    build = RestoredRows.build

    def forgetful(self: Any, now_us: int, *, epoch: int) -> None:
        self._definitions.clear()
        build(self, now_us, epoch=epoch)

    patch.setattr(RestoredRows, "build", forgetful)


#: Each bug, and the number of seeds from 0 on within which one must find it: several times as many as it takes on average.
BUGS: dict[Bug, int] = {
    output_without_its_input_offset: 10,
    snapshot_not_continued: 50,
    unsynced_write_acknowledged: 150,
    unsynced_write_visible: 10,
    fence_ignored: 30,
    open_transactions_survive_a_crash: 300,
    lease_never_ends: 150,
    heartbeats_renew_no_lease: 20,
    forwarded_report_decided_here_too: 10,
    command_accepted_twice: 50,
    step_waits_for_what_has_ended: 20,
    grant_not_awaited: 200,
    version_ignored: 50,
    definitions_forgotten_at_a_restart: 20,
}
