"""The contract: every record type on the hub's topics, by name, with its JSON Schema and an example.

Names are `<kind>/<type>`: `events/task.created`, `reports/task.created`. The header `ce_type` of a record has the type of the
event, report or command. Releases may add to the contract, but never change or remove parts of it.
"""

from typing import Any, Literal, NamedTuple, get_args

from msgspec import Struct

from .catalogue import CATALOGUE
from .commands import COMMANDS, TaskReply
from .envelope import EventBody
from .json_schema import DIALECT, JsonSchema, example_of_struct, schema_of_struct
from .records import FORMS, Kind, RecordForm
from .reports import REPORTS

KINDS: tuple[Kind, ...] = get_args(Kind)


class WireType(NamedTuple):
    """One type of the contract. `written_by`: the component that writes it."""

    kind: Kind
    name: str
    """`<kind>/<type>`."""
    struct: type[Struct]
    written_by: Literal["engine", "outsiders"] = "engine"

    @property
    def form(self) -> RecordForm:
        """Topic, key and headers of its records."""
        return FORMS[self.kind]

    @property
    def value_of(self) -> str:
        """Where records have a value of this type."""
        value = f"value of a record of {self.form.topic}"
        return f"`data` in the {value}" if self.kind == "events" else value

    @property
    def when(self) -> str:
        """A sentence: when an event is emitted; for other types, what the struct is."""
        if self.kind == "events":
            return CATALOGUE[self.name.partition("/")[2]].when
        return " ".join((self.struct.__doc__ or "").split("\n\n")[0].split())


_ROWS = [
    WireType("envelope", "envelope/event", EventBody),
    *(WireType("events", f"events/{name}", row.data) for name, row in CATALOGUE.items()),
    *(WireType("reports", f"reports/{name}", struct, "outsiders") for name, struct in REPORTS.items()),
    *(WireType("commands", f"commands/{name}", struct) for name, struct in COMMANDS.items()),
    WireType("replies", "replies/task", TaskReply),
]
CONTRACT: dict[str, WireType] = {row.name: row for row in _ROWS}

#: Overrides for types for which the examples of single fields do not form a record that the engine admits.
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
    """The full names that match `name`, with or without a kind; empty if there is none."""
    return [name] if name in CONTRACT else [f"{kind}/{name}" for kind in KINDS if f"{kind}/{name}" in CONTRACT]


def json_schema(name: str) -> JsonSchema:
    """The JSON Schema (draft 2020-12) of a type of the contract; `x-record` has topic, key and headers. Raises KeyError."""
    row = CONTRACT[name]
    record = {"topic": row.form.topic, "key": row.form.key, "headers": row.form.headers, "optional_headers": row.form.optional}
    identity = {"$schema": DIALECT, "$id": f"/schemas/{name}/1"}
    return {**identity, **schema_of_struct(row.struct), "examples": [example(name)], "x-record": record}


def example(name: str) -> dict[str, Any]:
    """A value of a type of the contract, as JSON types. Raises KeyError."""
    given = _EXAMPLES.get(name)
    return example_of_struct(CONTRACT[name].struct) if given is None else given
