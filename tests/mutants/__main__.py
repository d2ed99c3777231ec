"""Draws mutants and runs the tests that should kill them.

    python -m tests.mutants 40 --seed 7            # forty of all rooms, two at a time
    python -m tests.mutants 20 --room worker -v    # of one room

A mutant is killed if a test fails or exceeds its time limit. Survivors are printed with the command that reproduces them. Exit
codes: 0 at least `--least` per cent were killed, 1 fewer, 2 the tests fail without a mutant."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from .rooms import ROOMS, files_of
from .sites import Mutant, count_sites, mutate

ROOT = Path(__file__).parents[2]
COPIED = (
    "hub",
    "schemas",
    "subscribers",
    "tests",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "docker-compose.yml",
)

#: A mutant that makes the tests of a room run longer than this (seconds) is found: they hang.
SECONDS = 900


class Drawn(NamedTuple):
    """A mutant to be tried: its room, its file (relative to the project), which of the file's places it changes."""

    room: str
    file: str
    site: int


def draw(count: int, seed: int, rooms: list[str]) -> list[Drawn]:
    """`count` different mutants of these rooms; every place is as likely as any other."""
    places = [
        Drawn(room, str(file.relative_to(ROOT)), site)
        for room in rooms
        for file in files_of(ROOT, room)
        for site in range(count_sites(file.read_text()))
    ]
    return random.Random(seed).sample(places, min(count, len(places)))


class Copy:
    """A copy of the project in which one module is changed at a time."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taskhub-mutants-"))
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, self.folder / name)

    def passes(self, room: str) -> bool:
        """Whether the tests of a room pass with the copy as it is."""
        return all(self._run(tests) for tests in ROOMS[room].tests)

    def _run(self, tests: str) -> bool:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
        try:
            done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def survives(self, drawn: Drawn, mutant: Mutant) -> bool:
        """Whether the tests of its room pass with the mutant."""
        file = self.folder / drawn.file
        original = file.read_text()
        file.write_text(mutant.source)
        try:
            return self.passes(drawn.room)
        finally:
            file.write_text(original)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("count", type=int, nargs="?", default=40, help="how many mutants (default: 40)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="decides which are drawn")
    parser.add_argument("--room", choices=ROOMS, action="append", help="only mutants of this room; may be repeated")
    parser.add_argument("--one", metavar="FILE:SITE", help="one mutant, as a survivor's line names it")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once (default: 2)")
    parser.add_argument("--least", type=float, default=95.0, help="per cent that must be killed (default: 95)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print killed ones, too")
    return parser.parse_args()


def _room_of(file: str) -> str:
    return next(room for room in ROOMS if ROOT / file in files_of(ROOT, room))


def main() -> int:
    """See the module."""
    given = _arguments()
    rooms = given.room or list(ROOMS)
    if given.one:
        file, _, site = given.one.rpartition(":")
        mutants = [Drawn(_room_of(file), file, int(site))]
    else:
        mutants = draw(given.count, given.seed, rooms)
    print(f"{len(mutants)} mutants of {', '.join(rooms)}, seed {given.seed}", flush=True)
    copies: SimpleQueue[Copy] = SimpleQueue()
    made = [Copy() for _ in range(given.jobs)]
    for copy in made:
        copies.put(copy)
    try:
        for room in {one.room for one in mutants}:
            if not made[0].passes(room):
                print(f"the tests of {room} fail without any change", file=sys.stderr)
                return 2
        survivors = _try_all(mutants, copies, given)
    finally:
        for copy in made:
            shutil.rmtree(copy.folder)
    killed = len(mutants) - survivors
    print(f"{killed} of {len(mutants)} killed ({killed / len(mutants):.1%})")
    return 0 if killed * 100 >= given.least * len(mutants) else 1


def _try_all(mutants: list[Drawn], copies: "SimpleQueue[Copy]", given: argparse.Namespace) -> int:
    began = time.monotonic()

    def attempt(drawn: Drawn) -> bool:
        mutant = mutate((ROOT / drawn.file).read_text(), drawn.site)
        copy = copies.get()
        try:
            survived = copy.survives(drawn, mutant)
        finally:
            copies.put(copy)
        if survived or given.verbose:
            seconds = f"{time.monotonic() - began:.0f} s"
            print(
                f"{'SURVIVED' if survived else 'killed'} {drawn.file}:{mutant.line} (--one {drawn.file}:{drawn.site}) {seconds}"
            )
            print(f"    - {_first_line(mutant.before)}\n    + {_first_line(mutant.after) or '(left out)'}", flush=True)
        return survived

    with ThreadPoolExecutor(given.jobs) as threads:
        return sum(threads.map(attempt, mutants))


def _first_line(statement: str) -> str:
    return statement.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
