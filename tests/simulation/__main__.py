"""Many seeds in one process, with figures: `python -m tests.simulation [COUNT] [FIRST]`. Exit code 1 where one failed."""

import gc
import sys
import time
import traceback

from .coverage import Coverage
from .world import simulate

PROGRESS_SEEDS = 500


def main(count: int, first: int) -> int:
    """Run `count` seeds from `first` on; prints what happened in them and which failed."""
    began, coverage, failed = time.process_time(), Coverage(), list[int]()
    gc.freeze()
    for number, seed in enumerate(range(first, first + count), 1):
        try:
            coverage.add(simulate(seed).coverage)
        except Exception as error:
            failed.append(seed)
            print(f"seed {seed}:", *traceback.format_exception(error, limit=-4), sep="\n", flush=True)
        if number % PROGRESS_SEEDS == 0:
            print(f"{number:,} seeds, {len(failed)} failed, {time.process_time() - began:.0f} s", flush=True)
    print(*coverage.lines(), sep="\n")
    seconds = time.process_time() - began
    print(f"{len(failed)} of {count:,} failed {failed[:50]} in {seconds:.0f} s of one core, {count / seconds:.1f} a second")
    return 1 if failed else 0


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(given[0] if given else 200, given[1] if len(given) > 1 else 0))
