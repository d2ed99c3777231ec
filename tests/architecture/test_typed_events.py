"""The core refers to events, commands and reports by their structs; their type names derive from the structs."""

import ast
from pathlib import Path

import pytest

from schemas import CATALOGUE, COMMANDS
from schemas.reports import REPORTS

ROOT = Path(__file__).parents[2]
NAMES = {*CATALOGUE, *COMMANDS, *REPORTS}


def names_in(path: Path) -> list[str]:
    """The strings of a module that are the name of an event, a command or a report, with their lines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [node for node in nodes if isinstance(node, ast.Constant) and node.value in NAMES]
    return [f"{path.name}:{node.lineno}: {node.value!r}" for node in found]


@pytest.mark.parametrize("path", sorted((ROOT / "hub" / "core").rglob("*.py")), ids=lambda path: path.stem)
def test_no_string_names_an_event_in_the_core(path: Path) -> None:
    assert not names_in(path)


def test_such_strings_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Docs of task.ready."""\nturn.apply(task, "task.ready", data)\n')
    assert names_in(module) == ["module.py:2: 'task.ready'"]
