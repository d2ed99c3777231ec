"""Many seeds in one process, with figures: `python -m tests.simulation [COUNT] [FIRST]`. Exit code 1 where one failed."""

import sys
import time
from collections import Counter

from schemas import TERMINAL_STATES

from .test_schedules import check_seed

PROGRESS_SEEDS = 1_000


def main(count: int, first: int) -> int:
    """Run `count` seeds from `first` on; prints what they made and which failed."""
    began, made, failed = time.perf_counter(), Counter[str](), list[int]()
    for seed in range(first, first + count):
        try:
            schedule = check_seed(seed)
        except Exception as error:
            failed.append(seed)
            print(f"seed {seed}: {error}", *getattr(error, "__notes__", ()), sep="\n", flush=True)
            continue
        made += schedule.counts
        made["seeds"] += 1
        made["seeds of two partitions"] += len(schedule.worlds) > 1
        for world in schedule.worlds:
            made["intake records"] += len(world.intake)
            made["events"] += len(world.events)
            made["ends"] += sum(event.to_state in TERMINAL_STATES for event in world.events)
            made["forwarded"] += len(world.forwarded)
        if made["seeds"] % PROGRESS_SEEDS == 0:
            print(f"{made['seeds']:,} seeds, {len(failed)} failed, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(failed)} failed {failed[:50]} in {time.perf_counter() - began:.0f} s")
    print(*(f"{number:>12,} {name}" for name, number in sorted(made.items())), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(given[0] if given else 400, given[1] if len(given) > 1 else 0))
