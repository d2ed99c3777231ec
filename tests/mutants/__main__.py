"""Draws mutants and runs the tests that should kill them.

    python -m tests.mutants 40 --seed 7            # forty of all rooms, two at a time
    python -m tests.mutants 20 --room worker -v    # of one room

Each runs with the tests of its room that may execute the changed lines. A mutant is killed if a test fails or exceeds its time
limit. Survivors are printed with the command that reproduces them. Exit codes: 0 at least `--least` per cent were killed,
1 fewer, 2 the tests fail without a mutant."""

import argparse
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from .copies import ROOT, Copy
from .recordings import Recording, choose, digests, load, store, within
from .rooms import ROOMS, files_of, suite_of
from .sites import count_sites, mutate


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


def cache_dir() -> Path:
    """The folder of recordings."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskhub" / "mutants"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("count", type=int, nargs="?", default=40, help="how many mutants (default: 40)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="decides which are drawn")
    parser.add_argument("--room", choices=ROOMS, action="append", help="only mutants of this room; may be repeated")
    parser.add_argument("--one", metavar="FILE:SITE", help="one mutant, as a survivor's line names it")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once (default: 2)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="only the fastest tests, which take so long together")
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
    sources = {one.file: (ROOT / one.file).read_text() for one in mutants}
    copies = [Copy() for _ in range(given.jobs)]
    try:
        recordings = _recordings(copies, {test for one in mutants for test in suite_of(ROOT, one.room)})
        failing = sorted(test for test, recording in recordings.items() if not recording)
        if failing:
            print(f"These tests fail without a mutant: {', '.join(failing)}", file=sys.stderr)
            return 2
        usable = {test: recording for test, recording in recordings.items() if recording}
        survivors = _try_all(mutants, sources, copies, usable, given)
    finally:
        for copy in copies:
            shutil.rmtree(copy.folder)
    killed = len(mutants) - survivors
    print(f"{killed} of {len(mutants)} killed ({killed / len(mutants):.1%})")
    return 0 if killed * 100 >= given.least * len(mutants) else 1


def _recordings(copies: list[Copy], test_files: Iterable[str]) -> dict[str, Recording | None]:
    """The recording of each test file; None for one whose tests fail."""
    digest_of = digests(copies[0].folder, test_files)
    missing = sorted(test for test, digest in digest_of.items() if not load(cache_dir(), test, digest))
    if missing:
        print(f"recording {len(missing)} test files", flush=True)

    def record(copy: Copy, test_files: list[str]) -> None:
        folder = copy.record(test_files)
        for test in test_files:
            if recording := load(folder, test, ""):
                store(cache_dir(), test, replace(recording, digest=digest_of[test]))

    parts = [missing[first :: len(copies)] for first in range(min(len(copies), len(missing)))]
    with ThreadPoolExecutor(len(copies)) as threads:
        list(threads.map(record, copies, parts))
    return {test: load(cache_dir(), test, digest) for test, digest in digest_of.items()}


def _try_all(
    mutants: list[Drawn],
    sources: dict[str, str],
    copies: list[Copy],
    recordings: dict[str, Recording],
    given: argparse.Namespace,
) -> int:
    """How many of the mutants survive."""
    began = time.monotonic()
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def attempt(drawn: Drawn) -> bool:
        mutant = mutate(sources[drawn.file], drawn.site)
        every = choose([recordings[test] for test in suite_of(ROOT, drawn.room)], drawn.file, mutant.lines)
        tests = within(every, given.seconds)
        copy = free.get()
        try:
            killer = copy.killer_of(drawn.file, mutant, tests)
        finally:
            free.put(copy)
        if killer is None or given.verbose:
            outcome, after = "killed" if killer else "SURVIVED", f"{len(tests)} tests, {time.monotonic() - began:.0f} s"
            change = f"    - {_first_line(mutant.before)}\n    + {_first_line(mutant.after) or '(left out)'}"
            by = f"\n    by {killer}" if killer else ""
            print(f"{outcome} {drawn.file}:{mutant.lines[0]} (--one {drawn.file}:{drawn.site}) {after}\n{change}{by}", flush=True)
        return killer is None

    with ThreadPoolExecutor(len(copies)) as threads:
        return sum(threads.map(attempt, mutants))


def _first_line(statement: str) -> str:
    return statement.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
