"""The contract: every type of record that crosses a topic, by name, with its JSON Schema and an example.

Names are `<kind>/<type>`: `events/task.created`, `reports/task.created`. The type of an event, a report or a command is the
header `ce_type` of its record. A release may add to the contract; it changes or removes nothing.
"""

from typing import Any, Literal, NamedTuple, get_args

from msgspec import Struct

from .catalogue import CATALOGUE
from .commands import COMMANDS, TaskReply
from .envelope import EventBody
from .json_schema import DIALECT, JsonSchema, example_of_struct, schema_of_struct
from .reports import REPORTS

Kind = Literal["envelope", "events", "reports", "commands", "replies"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class WireType(NamedTuple):
    """One type of the contract. `value_of`: what is encoded so; `written_by`: who writes it, for all others to read."""

    name: str
    struct: type[Struct]
    value_of: str
    written_by: Literal["engine", "outsiders"]

    @property
    def when(self) -> str:
        """What it says, as a sentence: of an event, when it is emitted; else what the struct is."""
        kind, _, name = self.name.partition("/")
        return CATALOGUE[name].when if kind == "events" else " ".join((self.struct.__doc__ or "").split("\n\n")[0].split())


_EVENT = "`data` in the value of a record of hub.events"
_ROWS = [
    WireType("envelope/event", EventBody, "value of a record of hub.events", "engine"),
    *(WireType(f"events/{name}", row.data, _EVENT, "engine") for name, row in CATALOGUE.items()),
    *(WireType(f"reports/{name}", struct, "value of a record of hub.intake", "outsiders") for name, struct in REPORTS.items()),
    *(
        WireType(f"commands/{name}", struct, "value of a record of hub.commands.<pool>", "engine")
        for name, struct in COMMANDS.items()
    ),
    WireType("replies/task", TaskReply, "value of a record of hub.replies", "engine"),
]
CONTRACT: dict[str, WireType] = {row.name: row for row in _ROWS}

#: Where the examples of the single fields do not make a record that the engine would admit.
_EXAMPLES: dict[str, dict[str, Any]] = {
    "reports/task.created": {
        "name": "fulfil",
        "id": "order-7",
        "namespace": "shop",
        "correlation_id": "order-7",
        "created_by": "shop",
        "tags": {"team": "billing"},
        "tasks": {
            "reserve": {"name": "reserve-stock", "args": {"order": 7}},
            "charge": {
                "name": "charge",
                "args": {"order": 7, "amount": 12.5},
                "depends_on": ["reserve"],
                "retry": {"max_attempts": 5, "backoff": {"initial": 0.5, "max": 30.0}},
                "timeouts": {"attempt": 30.0},
            },
            "ship": {"name": "ship", "depends_on": ["charge", {"task": "reserve", "on": "ended"}], "start_after": 0.5},
        },
    },
}


def find_types(name: str) -> list[str]:
    """The names of the contract that `name` may mean: itself, or with any kind before it; empty where there is none."""
    return [name] if name in CONTRACT else [f"{kind}/{name}" for kind in KINDS if f"{kind}/{name}" in CONTRACT]


def json_schema(name: str) -> JsonSchema:
    """The JSON Schema (draft 2020-12) of a type of the contract. Raises KeyError."""
    schema = schema_of_struct(CONTRACT[name].struct)
    return {"$schema": DIALECT, "$id": f"/schemas/{name}/1", **schema, "examples": [example(name)]}


def example(name: str) -> dict[str, Any]:
    """A value of a type of the contract, as JSON types. Raises KeyError."""
    given = _EXAMPLES.get(name)
    return example_of_struct(CONTRACT[name].struct) if given is None else given
