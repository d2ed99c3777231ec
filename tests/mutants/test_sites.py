"""Mutations are the intended ones, and each is a single change."""

import ast

import pytest

from .__main__ import draw
from .copies import ROOT
from .rooms import ROOMS, files_of, suite_of
from .sites import count_sites, mutate


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = a < b", "x = a <= b"),
        ("x = a < clock()", "x = a >= clock()"),
        ("x = loop.time() > b", "x = loop.time() <= b"),
        ("x = a is not None", "x = a is None"),
        ("x = a in b", "x = a not in b"),
        ("x = a + 1", "x = a - 1"),
        ("x = a and b", "x = a or b"),
        ("x = not a", "x = a"),
        ("x = True", "x = False"),
        ("f(a)", "pass"),
        ("def f(a):\n    return a >= 1", "def f(a):\n    return a > 1"),
    ],
)
def test_each_kind_of_change(before: str, after: str) -> None:
    assert count_sites(before) == 1
    assert mutate(before, 0).source == after


@pytest.mark.parametrize(
    "source",
    [
        'x = "a" + b',
        "assert a < b",
        "log.info(a < b)",
        "@f(True)\ndef g():\n    return 1",
        "def f(a=True, b: int = 1):\n    return a",
    ],
)
def test_what_is_not_worth_a_change(source: str) -> None:
    assert count_sites(source) == 0


def test_a_module_is_changed_in_one_place_only() -> None:
    source = (ROOT / "hub/core/decide.py").read_text() + "\nx = a < b or not c + d\nf()\n"
    whole = ast.unparse(ast.parse(source)).splitlines()
    changes = set()
    for site in range(count_sites(source)):
        mutant = mutate(source, site).source.splitlines()
        differing = [index for index, (old, new) in enumerate(zip(whole, mutant, strict=True)) if old != new]
        assert len(differing) == 1
        changes.add(tuple(mutant))
    assert len(changes) == count_sites(source)


def test_the_lines_of_a_change_are_those_of_its_node() -> None:
    source = "f(\n    a\n    + b,\n    True,\n)\n"
    assert [mutate(source, site).lines for site in range(count_sites(source))] == [range(1, 6), range(2, 4), range(4, 5)]


def test_mutants_are_drawn_by_their_seed_from_every_room() -> None:
    assert draw(50, 1, list(ROOMS)) == draw(50, 1, list(ROOMS)) != draw(50, 2, list(ROOMS))
    for name, room in ROOMS.items():
        assert files_of(ROOT, name)
        assert all((ROOT / tests).exists() for tests in room.tests)
        assert suite_of(ROOT, name)
        assert draw(1, 1, [name])
