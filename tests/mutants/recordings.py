"""Which tests execute which lines, and the tests that may kill a mutant."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

#: What any test may depend on. A recording is of this content, and of the content of its test file.
SUPPORT = ("hub", "schemas", "subscribers", "tests")

#: Stands for a test where lines are executed outside of every test: by imports, and by fixtures that tests share.
SHARED = ""


@dataclass(frozen=True)
class Recording:
    """One run of a test file: the duration of each test (seconds), the tests that start processes, in which nothing is recorded,
    and the lines that each test executed, by file."""

    digest: str
    seconds: dict[str, float]
    spawning: list[str]
    executed: dict[str, dict[str, list[int]]]


def choose(recordings: Sequence[Recording], file: str, lines: range) -> dict[str, float]:
    """The tests that may fail if these lines change, with their durations: those that execute one of them, the fastest first, and
    those that start processes. All tests, if a line is executed outside of tests, or if none is executed."""
    seconds = {test: duration for recording in recordings for test, duration in recording.seconds.items()}
    spawning = {test for recording in recordings for test in recording.spawning}
    executing = {
        test
        for recording in recordings
        for test, executed in recording.executed.items()
        if any(line in lines for line in executed.get(file, ()))
    }
    if not executing or SHARED in executing:
        executing = seconds.keys() - spawning
    chosen = sorted(executing | spawning, key=lambda test: (test not in executing, seconds[test], test))
    return {test: seconds[test] for test in chosen}


def within(tests: dict[str, float], seconds: float) -> dict[str, float]:
    """The first tests whose durations add up to at most this; at least one."""
    ends = accumulate(tests.values())
    return {test: tests[test] for number, (test, end) in enumerate(zip(tests, ends, strict=True)) if end <= seconds or not number}


def digests(root: Path, test_files: Iterable[str]) -> dict[str, str]:
    """For each test file, the digest of its content and of everything but tests that it may depend on."""
    support = hashlib.sha256()
    for top in SUPPORT:
        for file in sorted((root / top).rglob("*")):
            if file.is_file() and not {"__pycache__", "mutants"} & set(file.parts) and not file.match("test_*.py"):
                support.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return {test: hashlib.sha256(support.digest() + (root / test).read_bytes()).hexdigest() for test in test_files}


def load(folder: Path, test_file: str, digest: str) -> Recording | None:
    """The recording of a test file; None if there is none of this content."""
    try:
        recording = Recording(**json.loads(_file_of(folder, test_file).read_text()))
    except FileNotFoundError:
        return None
    return recording if recording.digest == digest else None


def store(folder: Path, test_file: str, recording: Recording) -> None:
    """Replace the recording of a test file."""
    file = _file_of(folder, test_file)
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".new")
    written.write_text(json.dumps(vars(recording)))
    written.replace(file)


def _file_of(folder: Path, test_file: str) -> Path:
    return folder / f"{test_file.replace('/', '.')}.json"
