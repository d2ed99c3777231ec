"""The modules to mutate, and the tests that must fail: those of the room, the fastest first."""

from pathlib import Path
from typing import NamedTuple


class Room(NamedTuple):
    """`files`: patterns relative to the project; `tests`: folders or files, run one after another until one fails."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


_DECIDING = ("tests/core", "tests/engine", "tests/simulation", "tests/testing", "tests/components/test_hub.py")

ROOMS: dict[str, Room] = {
    "core": Room(("hub/core/**/*.py",), _DECIDING),
    "engine": Room(("hub/engine/*.py",), _DECIDING),
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
