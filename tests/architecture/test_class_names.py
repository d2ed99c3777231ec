"""Class names are unique, so that a name in a message, a traceback or a search identifies one class."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("hub", "schemas", "subscribers") for path in (ROOT / top).rglob("*.py"))

#: Names that several classes have, and why.
REASONS: dict[str, str] = {}


def classes(source: str) -> list[str]:
    """The names of the classes that a module defines, also inside of others."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def shared(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names of more than one class, and the files that define them."""
    places = defaultdict(list)
    for path, source in sources.items():
        for name in classes(source):
            places[name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_two_classes_have_the_same_name() -> None:
    found = shared({str(path.relative_to(ROOT)): path.read_text() for path in SOURCES})
    unexplained = {name: paths for name, paths in found.items() if name not in REASONS}
    assert not unexplained, f"rename all but one, each by the noun it is: {unexplained}"
    assert not REASONS.keys() - found.keys(), f"not needed any more: {sorted(REASONS.keys() - found.keys())}"


def test_a_shared_name_is_found_also_inside_of_a_class_or_function_and_within_one_file() -> None:
    sources = {"a.py": "class A: ...\nclass B:\n    class A: ...", "b.py": "def f():\n    class B: ...\nclass C: ..."}
    assert shared(sources) == {"A": ["a.py", "a.py"], "B": ["a.py", "b.py"]}
