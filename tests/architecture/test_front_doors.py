"""The `__all__` of a package is its public interface: sorted, complete, and every name exists."""

import ast
import importlib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for top in ("hub", "schemas", "subscribers")
    for path in (ROOT / top).rglob("__init__.py")
)


def imported_names(path: Path) -> set[str]:
    """Public names that a package imports from its own modules at its top level."""
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.level == 1]
    names = {alias.asname or alias.name for node in nodes for alias in node.names}
    return {name for name in names if not name.startswith("_")}


def isort_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that imports have."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_importable_sorted_and_complete(name: str) -> None:
    package = importlib.import_module(name)
    path = ROOT / Path(*name.split(".")) / "__init__.py"
    public = list(getattr(package, "__all__", []))
    imported = imported_names(path)
    if not public:
        assert not imported, f"{name} imports names and has no __all__"
        return
    assert public == sorted(public, key=isort_order), f"{name}.__all__ is not sorted"
    assert len(public) == len(set(public)), f"{name}.__all__ repeats a name"
    missing = [one for one in public if not hasattr(package, one)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"
    modules = {part.stem for part in path.parent.iterdir() if part.suffix == ".py" or part.is_dir()}
    unlisted = imported - set(public) - modules
    assert not unlisted, f"{name} imports {sorted(unlisted)} and does not list them in __all__"


@pytest.mark.parametrize("group", ["console_scripts", "taskhub.subscribers"])
def test_entry_points_resolve(group: str) -> None:
    ours = [point for point in entry_points(group=group) if point.dist is not None and point.dist.name == "taskhub"]
    assert ours, f"no entry points in the group {group}: is the project installed?"
    for point in ours:
        assert callable(point.load()), point


#: What a handler raises to say what shall follow; these alone have no suffix.
INSTRUCTIONS = {"Drop", "Permanent", "Postpone", "RetryLater", "Unavailable", "Undeliverable"}


def test_public_names_mean_one_thing_and_exceptions_are_recognised_by_their_name() -> None:
    doors = [importlib.import_module(name) for name in ("hub", "subscribers")]
    public = [{name: getattr(door, name) for name in door.__all__} for door in doors]
    assert not [name for name in public[0].keys() & public[1].keys() if public[0][name] is not public[1][name]]
    raised = {name for names in public for name, one in names.items() if isinstance(one, type) and issubclass(one, Exception)}
    assert {name for name in raised if not name.endswith("Error")} == INSTRUCTIONS
