"""Write the golden files again, after a change that only adds to the contract.

`--replace` writes them whatever was changed: for the time before the first release, and for nothing else.
"""

import sys

from . import REGENERATE, current, differing, golden, not_additive, write


def main(arguments: list[str]) -> int:
    """The exit status: 0 written, 1 refused."""
    if arguments not in ([], ["--replace"]):
        print(f"usage: {REGENERATE} [--replace]", file=sys.stderr)
        return 2
    old, new = golden(), current()
    found = [] if arguments else not_additive(old, new)
    if found:
        print("not written, since this is not an addition:", *found, sep="\n  ", file=sys.stderr)
        return 1
    write(new)
    print(f"{len(new)} types; changed: {', '.join(differing(old, new)) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
