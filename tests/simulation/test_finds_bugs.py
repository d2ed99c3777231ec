"""The simulation finds what it is for: each bug of `bugs.py`, within so many seeds."""

import pytest

from .bugs import BUGS, Bug
from .world import simulate


@pytest.mark.parametrize(("bug", "seeds"), BUGS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_bug_that_is_put_back_is_found(bug: Bug, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert any(_fails(seed) for seed in range(seeds))


def _fails(seed: int) -> bool:
    try:
        simulate(seed)
    except Exception:
        return True
    return False
