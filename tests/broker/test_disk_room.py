"""Monitoring of the free disk space, also if it cannot be determined."""

import logging
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from hub.broker import BrokerServer
from hub.broker.disk_room import DiskRoom
from hub.broker.files import BACKLOG_MAX, CHECKPOINT_OVERDUE, FileStorage
from tests.components.running import until


def broken(*_: object) -> NoReturn:
    raise OSError(5, "input/output error")


@pytest.mark.parametrize("before", [True, False])
def test_a_disk_that_does_not_say_what_is_free_counts_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: bool
) -> None:
    room = DiskRoom(tmp_path, 0)
    room.look(lambda: before)
    caplog.clear()
    monkeypatch.setattr(shutil, "disk_usage", broken)
    with caplog.at_level(logging.WARNING):
        room.look(lambda: True)
        room.look(lambda: True)
    assert room.enough is before
    assert [record.__dict__["action"] for record in caplog.records] == ["disk_space_unknown"], "once, not at each look"
    monkeypatch.undo()
    room.look(lambda: True)
    assert room.enough


def test_a_disk_that_does_not_say_what_is_free_and_takes_no_file_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = DiskRoom(tmp_path, 0)
    monkeypatch.setattr(shutil, "disk_usage", broken)
    with caplog.at_level(logging.WARNING):
        room.look(lambda: False)
    assert not room.enough
    assert "an unknown number of bytes free" in caplog.records[-1].getMessage()


async def test_an_error_of_the_look_at_the_free_space_does_not_end_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", broken)
    ended: list[BaseException] = []
    server = BrokerServer(tmp_path, storage=FileStorage(tmp_path), on_fatal=ended.append)
    with caplog.at_level(logging.WARNING):
        await server.start()
        await until(lambda: "disk_space_unknown" in [record.__dict__.get("action") for record in caplog.records])
        await server.local.create_topic("t", 1)
        await server.stop()
    assert ended == []


def test_writes_wait_for_a_late_checkpoint_and_are_rejected_when_none_is_written(tmp_path: Path) -> None:
    size = 10_000
    storage = FileStorage(tmp_path, checkpoint_bytes=size, reserve_bytes=0)
    list(storage.recover().blocks)
    storage.maintain()
    changes: list[tuple[int, tuple[bool, bool, bool]]] = []
    for written in range(1, 80):
        storage.write([bytes(size // 10 - 100)])
        now = storage.checkpoint_due, storage.checkpoint_overdue, not storage.writable
        if not changes or changes[-1][1] != now:
            changes.append((written, now))
    storage.close()
    begins = {now: written * (size // 10) / size for written, now in changes}
    assert list(begins) == [(False, False, False), (True, False, False), (True, True, False), (True, True, True)]
    assert list(begins.values())[1:] == pytest.approx([1, CHECKPOINT_OVERDUE, BACKLOG_MAX], rel=0.15)
