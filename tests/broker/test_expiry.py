"""Expiration of producers, transactional ids and offsets of groups. No sockets; time is an argument."""

from pathlib import Path
from typing import Any

import pytest

from hub.broker import Broker, BrokerSettings
from hub.broker.files import FileStorage
from hub.broker.group_state import JoinRequest
from hub.protocol import ErrorCode

from .client import batch
from .test_groups import ManualClock

DAY_MS = 86_400_000
LIMITS = BrokerSettings(producer_expiration_ms=DAY_MS, transactional_id_expiration_ms=7 * DAY_MS, offsets_retention_ms=7 * DAY_MS)


class Disk:
    """A core on files that can be restarted, orderly or not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.open()

    def open(self) -> None:
        self.storage = FileStorage(self.directory, journal_file_bytes=20_000)
        self.broker = Broker(self.storage, clock=self.clock, settings=LIMITS)
        self.broker.recover()
        self.flush()

    def flush(self) -> None:
        block = self.broker.cut()
        if block.parts:
            self.storage.write(block.parts)
        self.broker.written(block)

    def restart(self, *, orderly: bool) -> None:
        self.flush()
        if orderly:
            self.broker.transactions.abort_open()
            self.flush()
            self.storage.checkpoint(self.broker.plan_checkpoint(clean=True), self.storage.begin_checkpoint())
        self.storage.close()
        self.open()

    def days(self, count: float) -> None:
        """Let time pass and look for what has expired."""
        self.clock.seconds += count * DAY_MS / 1000
        self.broker.expire()
        self.flush()

    def join(self, group: str, member_id: str = "") -> str:
        """A member in a generation of its own."""
        request = JoinRequest(group, member_id, None, "c", "h", 10_000, 30_000, "consumer", [("range", b"")], must_know_id=False)
        answer: Any = self.broker.groups.join(request)
        self.clock.seconds += 1
        self.broker.timers.run_due()
        member: str = answer.value["member_id"]
        generation = answer.value["generation_id"]
        self.broker.groups.sync(group, generation, member, None, {member: b""})
        return member

    def offsets(self, group: str) -> dict[tuple[str, int], int]:
        found = self.broker.groups.groups.get(group)
        return {} if found is None else {place: entry.offset for place, entry in found.offsets.items()}


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    made = Disk(tmp_path)
    made.broker.state.topics.create("t", 2, {"retention.ms": "-1"})
    yield made
    made.storage.close()


@pytest.mark.parametrize("orderly", [True, False])
def test_transactional_ids_are_forgotten_a_week_after_their_last_use(disk: Disk, orderly: bool) -> None:
    transactions = disk.broker.transactions
    old = transactions.init_producer("old", 60_000)
    used = transactions.init_producer("used", 60_000)
    for _ in range(3):
        disk.days(4)
        disk.restart(orderly=orderly)
        used = disk.broker.transactions.init_producer("used", 60_000)
    transactions = disk.broker.transactions
    assert transactions.check("old", old.producer_id, old.epoch)[0] is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert transactions.check("used", used.producer_id, used.epoch)[0] is ErrorCode.NONE
    disk.restart(orderly=orderly)
    assert [entry[0] for entry in disk.broker.transactions.snapshot()["ids"]] == ["used"]
    again = disk.broker.transactions.init_producer("old", 60_000)
    assert (again.error, again.epoch) == (ErrorCode.NONE, 0)
    assert again.producer_id > used.producer_id


def test_an_open_transaction_keeps_its_id(disk: Disk) -> None:
    identity = disk.broker.transactions.init_producer("tx", 60_000)
    _, entry = disk.broker.transactions.check("tx", identity.producer_id, identity.epoch)
    assert entry is not None
    disk.broker.transactions.add_group(entry, "g")
    disk.days(8)
    assert disk.broker.transactions.check("tx", identity.producer_id, identity.epoch)[0] is ErrorCode.NONE


def test_a_partition_forgets_producers_after_a_day(disk: Disk) -> None:
    from hub.broker.batches import read_header

    log = disk.broker.state.topics["t"].logs[0]
    for producer_id in range(50):
        raw = batch([b"x"], producer_id=producer_id, epoch=0, sequence=0)
        disk.broker.state.append(log, raw, read_header(raw))
        if producer_id == 40:
            disk.days(0.9)
    disk.flush()
    disk.days(0.2)
    assert sorted(log.producers) == list(range(41, 50))


@pytest.mark.parametrize("orderly", [True, False])
def test_offsets_are_kept_a_week_after_the_group_became_empty(disk: Disk, orderly: bool) -> None:
    member = disk.join("g")
    disk.broker.groups.offsets.commit("g", [("t", 0, 5, -1, None)])
    disk.days(30)
    assert disk.offsets("g") == {("t", 0): 5}
    disk.broker.groups.leave("g", member, None)
    for _ in range(3):
        disk.days(2)
        disk.restart(orderly=orderly)
        assert disk.offsets("g") == {("t", 0): 5}
    disk.days(2)
    assert "g" not in disk.broker.groups.groups
    disk.restart(orderly=orderly)
    assert disk.offsets("g") == {}


@pytest.mark.parametrize("orderly", [True, False])
def test_members_that_a_restart_took_away_have_a_week_to_come_back(disk: Disk, orderly: bool) -> None:
    disk.join("g")
    disk.broker.groups.offsets.commit("g", [("t", 0, 5, -1, None)])
    disk.flush()
    disk.clock.seconds += 30 * DAY_MS / 1000  # the broker is down, or the members did not commit
    disk.restart(orderly=orderly)
    disk.days(6)
    assert disk.offsets("g") == {("t", 0): 5}
    disk.join("g")
    disk.days(6)
    assert disk.offsets("g") == {("t", 0): 5}


def test_offsets_of_a_group_that_never_had_members_expire_one_by_one(disk: Disk) -> None:
    disk.broker.groups.offsets.commit("g", [("t", 0, 5, -1, None)])
    disk.days(4)
    disk.broker.groups.offsets.commit("g", [("t", 1, 6, -1, None)])
    disk.days(4)
    assert disk.offsets("g") == {("t", 1): 6}
    disk.days(4)
    assert "g" not in disk.broker.groups.groups


def test_groups_of_which_nothing_is_left_go(disk: Disk) -> None:
    for number in range(20):
        group = f"g{number}"
        disk.broker.groups.leave(group, disk.join(group), None)
    disk.days(0.01)
    assert disk.broker.groups.groups == {}


def test_offsets_in_a_deleted_topic_are_forgotten_also_over_a_crash(disk: Disk) -> None:
    disk.broker.groups.offsets.commit("g", [("t", 0, 5, -1, None)])
    disk.broker.state.topics.delete(disk.broker.state.topics["t"])
    disk.broker.state.topics.create("t", 2, {})
    assert disk.offsets("g") == {}
    disk.restart(orderly=False)
    assert disk.offsets("g") == {}


def test_a_deleted_group_stays_deleted_over_a_crash(disk: Disk) -> None:
    for group in ("g", "h"):
        disk.broker.groups.offsets.commit(group, [("t", 0, 5, -1, None)])
    assert disk.broker.groups.offsets.delete("g") is ErrorCode.NONE
    disk.restart(orderly=False)
    assert list(disk.broker.groups.groups) == ["h"]
