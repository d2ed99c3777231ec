"""Test processes do not choose the same ports."""

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests import ports
from tests.ports import BLOCK, LOWEST, _hold_block, free_ports

HOLD = """
import sys
from pathlib import Path
from tests import ports
ports.EPHEMERAL = Path(sys.argv[1])
print(ports._hold_block(Path(sys.argv[2])), flush=True)
input()
"""


def test_ports_are_chosen_again_last() -> None:
    once, again = free_ports(40), free_ports(40)
    assert len({*once, *again}) == 80
    assert max(once + again) - min(once + again) < BLOCK


def test_a_block_belongs_to_one_process_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_blocks, locks = tmp_path / "range", tmp_path / "locks"
    two_blocks.write_text(f"{LOWEST + 2 * BLOCK + 1}\t60999\n")
    monkeypatch.setattr(ports, "EPHEMERAL", two_blocks)
    held = list[IO[bytes]]()
    monkeypatch.setattr(ports, "_held", held)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, two_blocks, locks],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    theirs = int(other.stdout.readline())
    ours = _hold_block(locks)
    assert {theirs, ours} == {LOWEST, LOWEST + BLOCK}
    with pytest.raises(OSError, match="is held"):
        _hold_block(locks)
    other.communicate("\n")
    assert _hold_block(locks) == theirs
    for file in held:
        file.close()
