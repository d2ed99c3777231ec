"""The contract as it was exported last: one file per type, `<kind>/<type>.json`, its JSON Schema with an example."""

from pathlib import Path
from typing import Any

from msgspec import json

from schemas.contract import CONTRACT, json_schema
from tests.schemas.additive import problems_of_contract

FOLDER = Path(__file__).parent
REGENERATE = "python -m tests.schemas.golden"

Contract = dict[str, dict[str, Any]]


def current() -> Contract:
    """The contract as the code declares it: type name → JSON Schema."""
    return {name: json_schema(name) for name in CONTRACT}


def golden(folder: Path = FOLDER) -> Contract:
    """The contract as the files hold it."""
    return {str(path.relative_to(folder).with_suffix("")): json.decode(path.read_bytes()) for path in folder.rglob("*.json")}


def write(contract: Contract, folder: Path = FOLDER) -> None:
    """Make the files those of `contract`."""
    for path in folder.rglob("*.json"):
        path.unlink()
    for name, schema in contract.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.format(json.encode(schema), indent=2) + b"\n")


def not_additive(old: Contract, new: Contract) -> list[str]:
    """What `new` changes or removes, as sentences that name type and field."""
    return problems_of_contract(old, new, lambda name: CONTRACT[name].written_by)


def differing(old: Contract, new: Contract) -> list[str]:
    """The types of which the two contracts say different things."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
