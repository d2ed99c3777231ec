"""The journal alone: complete blocks are replayed, incomplete ones are truncated, damage raises an error."""

import errno
import os
import shutil
import stat
from pathlib import Path

import psutil
import pytest

from hub.broker.errors import StorageDamaged
from hub.broker.journal import BLOCK_HEADER_BYTES, Journal, Position

START = Position(0, 0, 1)
FILE_BYTES = 2048


def opened(directory: Path, start: Position = START) -> tuple[Journal, list[bytes]]:
    journal = Journal(directory, file_bytes=FILE_BYTES)
    return journal, list(journal.replay(start))


def written(directory: Path, payloads: list[bytes], *, sync: bool = True) -> Path:
    """A journal with these blocks, as a crash leaves it. Returns the file with the last block."""
    journal, _ = opened(directory)
    for payload in payloads:
        journal.write([payload], sync=sync)
    path = journal._path(journal.position.generation)
    journal.close()
    return path


def test_blocks_come_back_in_order_over_several_files(tmp_path: Path) -> None:
    payloads = [b"%04d" % number * 50 for number in range(40)]
    written(tmp_path, payloads)
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {FILE_BYTES}
    assert opened(tmp_path)[1] == payloads


def test_a_journal_that_is_opened_again_continues_and_reuses_its_prepared_files(tmp_path: Path) -> None:
    payloads = [b"%04d" % number * 50 for number in range(40)]
    for first in range(0, 40, 10):
        journal, found = opened(tmp_path)
        assert found == payloads[:first]
        for payload in payloads[first : first + 10]:
            journal.write([payload])
        journal.close()
    opened(tmp_path)[0].close()
    files = len(list(tmp_path.iterdir()))
    for _ in range(3):
        journal, found = opened(tmp_path)
        journal.close()
        assert found == payloads
    assert len(list(tmp_path.iterdir())) == files


class PowerLoss:
    """Knows what a disk keeps: the content of each file when it was last synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[int, bytes] = {}
        monkeypatch.setattr(os, "fsync", self.sync)
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, handle: int) -> None:
        found = os.fstat(handle)
        if stat.S_ISREG(found.st_mode):
            self.kept[found.st_ino] = os.pread(handle, found.st_size, 0)

    def happens(self, directory: Path) -> None:
        for path in directory.iterdir():
            path.write_bytes(self.kept.get(path.stat().st_ino, b""))


@pytest.mark.parametrize("with_the_write", [False, True])
def test_a_sync_keeps_all_blocks_before_it_in_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_the_write: bool
) -> None:
    power_loss = PowerLoss(monkeypatch)
    payloads = [b"%04d" % number * 50 for number in range(40)]
    journal, _ = opened(tmp_path)
    for payload in payloads[:-1]:
        journal.write([payload])
    journal.write([payloads[-1]], sync=with_the_write)
    if not with_the_write:
        journal.sync()
    journal.write([b"not synced"])
    journal.close()
    power_loss.happens(tmp_path)
    assert opened(tmp_path)[1] == payloads


def test_what_was_replayed_is_kept_in_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    power_loss = PowerLoss(monkeypatch)
    payloads = [b"%04d" % number * 50 for number in range(40)]
    written(tmp_path, payloads, sync=False)
    journal, found = opened(tmp_path)
    journal.close()
    power_loss.happens(tmp_path)
    assert opened(tmp_path)[1] == found == payloads


def test_prepared_files_are_as_many_as_wanted_and_have_their_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    power_loss = PowerLoss(monkeypatch)
    journal = Journal(tmp_path, file_bytes=FILE_BYTES, spare_files=3)
    assert list(journal.replay(START)) == []
    for _ in range(2):
        assert journal.prepare()
    journal.close()
    power_loss.happens(tmp_path)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [FILE_BYTES] * 4


def test_a_journal_closes_its_files(tmp_path: Path) -> None:
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(2):
        written(tmp_path, [b"x" * FILE_BYTES] * 5)
        assert process.num_fds() == before


def test_a_file_for_which_there_is_no_room_is_neither_kept_nor_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = opened(tmp_path)
    process, real = psutil.Process(), os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on the device")

    journal.write([b"x" * FILE_BYTES])
    before = process.num_fds(), sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    for _ in range(3):
        journal.prepare()
    assert (process.num_fds(), sorted(tmp_path.iterdir())) == before
    monkeypatch.setattr(os, "fsync", real)
    assert journal.prepare()
    journal.close()


def test_a_block_larger_than_a_file_is_whole(tmp_path: Path) -> None:
    payloads = [b"a", b"b" * FILE_BYTES * 3, b"c"]
    written(tmp_path, payloads)
    assert opened(tmp_path)[1] == payloads


def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path) -> None:
    payloads = [b"first" * 3, b"second" * 5, b"third" * 7]
    path = written(tmp_path / "whole", payloads, sync=False)
    raw = path.read_bytes()
    ends, end = [], 0
    for payload in payloads:
        end += BLOCK_HEADER_BYTES + len(payload)
        ends.append(end)
    for cut in range(end + 1):
        torn = tmp_path / "torn"
        shutil.copytree(tmp_path / "whole", torn)
        (torn / path.name).write_bytes(raw[:cut] + bytes(len(raw) - cut))
        expected = payloads[: sum(cut >= end for end in ends)]
        journal, found = opened(torn)
        assert found == expected, cut
        journal.write([b"after"])
        journal.close()
        assert opened(torn)[1] == [*expected, b"after"], cut
        shutil.rmtree(torn)


def test_what_a_crash_left_behind_a_hole_is_never_taken_for_new(tmp_path: Path) -> None:
    payloads = [b"one", b"two", b"three"]
    path = written(tmp_path, payloads, sync=False)
    raw = bytearray(path.read_bytes())
    raw[BLOCK_HEADER_BYTES + 3 + 10] ^= 1  # inside the second block: written, never synced
    path.write_bytes(raw)
    journal, found = opened(tmp_path)
    assert found == [b"one"]
    journal.write([b"owt"])
    journal.close()
    assert opened(tmp_path)[1] == [b"one", b"owt"]


def test_damage_below_the_synced_point_is_refused(tmp_path: Path) -> None:
    payloads = [b"first" * 3, b"second" * 5, b"third" * 7]
    path = written(tmp_path, payloads)
    raw = path.read_bytes()
    for at in range(BLOCK_HEADER_BYTES * 2 + len(payloads[0]) + len(payloads[1])):
        damaged = bytearray(raw)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(StorageDamaged):
            opened(tmp_path)
    path.write_bytes(raw)
    assert opened(tmp_path)[1] == payloads


def test_a_quiet_moment_protects_the_last_block_too(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal.write([b"last"])
    journal.sync()
    journal.note_synced()
    path = journal._path(journal.position.generation)
    journal.close()
    raw = bytearray(path.read_bytes())
    raw[BLOCK_HEADER_BYTES] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StorageDamaged):
        opened(tmp_path)


def test_recycled_files_hold_nothing_of_their_former_use(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    for number in range(60):
        journal.write([b"old %03d" % number * 20])
        journal.sync()
        journal.recycle(journal.position.generation)
    start = journal.position
    journal.write([b"new"])
    journal.sync()
    journal.close()
    assert len(list(tmp_path.iterdir())) <= 4
    assert opened(tmp_path, start)[1] == [b"new"]


def test_recycling_keeps_files_of_the_usual_size_and_removes_others(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    large = b"x" * FILE_BYTES * 3
    for payload in (b"a" * 1500, b"b" * 1500, large, b"c" * 1500):
        journal.write([payload])
        journal.sync()
    inodes = {path.stat().st_ino: path.stat().st_size for path in tmp_path.iterdir()}
    assert sorted(set(inodes.values()))[0] == FILE_BYTES < max(inodes.values())
    journal.recycle(journal.position.generation)
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {FILE_BYTES}
    assert {path.stat().st_ino for path in tmp_path.iterdir()} <= inodes.keys()
    assert len(list(tmp_path.iterdir())) >= 2, "the one that is written, and a recycled one"
    journal.close()
    journal.close()  # harmless


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal.write([b"x"])
    start = journal.position
    journal.close()
    shutil.rmtree(tmp_path)
    with pytest.raises(StorageDamaged):
        opened(tmp_path, start)


def test_recycling_keeps_the_file_in_which_the_first_needed_block_is(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    positions = []
    for number in range(30):
        positions.append(journal.position)
        journal.write([b"%04d" % number * 50])
        journal.sync()
    needed = next(position for position in positions if position.generation == positions[-1].generation - 1 and position.offset)
    journal.recycle(needed.generation)
    journal.close()
    first = positions.index(needed)
    assert opened(tmp_path, needed)[1] == [b"%04d" % number * 50 for number in range(first, 30)]


def test_a_torn_block_at_the_beginning_of_a_file_ends_the_journal_there(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    payloads = [b"%04d" % number * 100 for number in range(8)]
    starts = []
    for payload in payloads:
        journal.write([payload])
        starts.append((journal.position.generation, journal.position.offset - len(payload) - BLOCK_HEADER_BYTES))
    last = next(number for number, (_, start) in enumerate(starts) if start == 0 and number)
    path = journal._path(starts[last][0])
    journal.close()
    torn = bytearray(path.read_bytes())
    torn[BLOCK_HEADER_BYTES] ^= 1
    path.write_bytes(torn)
    assert last + 1 < len(payloads), "a block follows the torn one"
    assert opened(tmp_path)[1] == payloads[:last]
