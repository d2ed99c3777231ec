"""The modules to mutate, and the tests that must fail."""

from pathlib import Path
from typing import NamedTuple


class Room(NamedTuple):
    """`files`: patterns relative to the project; `tests`: folders or files."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


_DECIDING = ("tests/core", "tests/engine", "tests/simulation", "tests/testing", "tests/components/test_hub.py")

ROOMS: dict[str, Room] = {
    "core": Room(("hub/core/**/*.py",), _DECIDING),
    "engine": Room(("hub/engine/*.py",), (*_DECIDING, "tests/conformance")),
    "worker": Room(("hub/worker/*.py",), ("tests/worker", "tests/simulation", "tests/testing", "tests/components/test_hub.py")),
    "session": Room(("hub/kafka/kip890.py", "hub/kafka/classic.py"), ("tests/kafka", "tests/conformance")),
    "broker": Room(
        (
            "hub/broker/broker.py",
            "hub/broker/pending.py",
            "hub/broker/topics.py",
            "hub/broker/log.py",
            "hub/broker/transactions.py",
            "hub/broker/groups.py",
            "hub/broker/group_offsets.py",
            "hub/broker/journal.py",
            "hub/broker/compaction.py",
            "hub/broker/retention.py",
        ),
        ("tests/broker", "tests/conformance", "tests/engine/test_loop.py"),
    ),
}


def files_of(root: Path, room: str) -> list[Path]:
    """The modules of a room, in order."""
    return sorted({file for pattern in ROOMS[room].files for file in root.glob(pattern)})


def suite_of(root: Path, room: str) -> list[str]:
    """The test files of a room, relative to the project, in order."""
    given = [root / tests for tests in ROOMS[room].tests]
    files = {file for path in given for file in ([path] if path.is_file() else path.rglob("test_*.py"))}
    return sorted(str(file.relative_to(root)) for file in files)
