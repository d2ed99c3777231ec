"""The README of each room names all its modules, and no module that does not exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = sorted(path.parent for top in ("hub", "schemas", "subscribers") for path in (ROOT / top).rglob("__init__.py"))
#: Where a path in a README may begin, besides the README's own folder.
BASES = (ROOT, ROOT / "hub", ROOT / "hub" / "core", ROOT / "hub" / "runtime")
EXAMPLES = {"app/alerts.py", "app.py"}

rooms = pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))


def spans(room: Path) -> str:
    """What a README says in code spans, one a line, without what it declares as new and without its blocks of code."""
    text = re.sub(r"^ *```.*?^ *```$", "", (room / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(re.findall(r"(?<!new )`([^`\n]+)`", text))


@rooms
def test_every_module_is_named_in_the_readme_of_its_room(room: Path) -> None:
    named = set(re.findall(r"\w+", spans(room)))
    modules = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
    assert modules <= named, f"{room.relative_to(ROOT)}/README.md does not name {sorted(modules - named)}"


@rooms
def test_every_module_that_a_readme_names_exists(room: Path) -> None:
    paths = set(re.findall(r"(?<![\w<>/.])[\w/]+\.py\b", spans(room))) - EXAMPLES
    gone = [path for path in sorted(paths) if not any((base / path).is_file() for base in (room, room.parent, *BASES))]
    assert not gone, f"{room.relative_to(ROOT)}/README.md names modules that do not exist: {gone}"
