"""The exported contract: every field has a description, every example is valid, and schemas agree with decoders."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct, ValidationError, inspect, json

from hub.kafka import Record, TopicPartition
from schemas import CATALOGUE, COMMANDS, REPORTS, schema_of
from schemas.contract import CONTRACT, example, find_types, json_schema
from schemas.fields import TRACEPARENT, about
from schemas.json_schema import default_of, described_fields, example_of_struct, schema_of_struct
from schemas.records import FORMS, Kind
from tests.engine.harness import World


def structs_of(kind: inspect.Type) -> set[type[Struct]]:
    """Every struct within a type."""
    if isinstance(kind, inspect.Metadata):
        return structs_of(kind.type)
    if isinstance(kind, inspect.UnionType):
        return set().union(*(structs_of(one) for one in kind.types))
    if isinstance(kind, inspect.ListType):
        return structs_of(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return structs_of(kind.value_type)
    if isinstance(kind, inspect.StructType):
        return {kind.cls}.union(*(structs_of(field.type) for field in kind.fields))
    return set()


STRUCTS = sorted(set().union(*(structs_of(inspect.type_info(row.struct)) for row in CONTRACT.values())), key=lambda s: s.__name__)
UNITS = {"_seconds": "second", "_us": "microsecond", "_bytes": "byte"}


def test_the_contract_has_every_type() -> None:
    assert {name.partition("/")[2] for name in CONTRACT if name.startswith("events/")} == CATALOGUE.keys()
    assert {name.partition("/")[2] for name in CONTRACT if name.startswith("reports/")} == REPORTS.keys()
    assert {name.partition("/")[2] for name in CONTRACT if name.startswith("commands/")} == COMMANDS.keys()
    assert CONTRACT.keys() >= {"envelope/event", "replies/task"}
    names = [struct.__name__ for struct in STRUCTS]
    assert len(names) == len(set(names)), "two structs of one name would hide one another in $defs"


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_has_a_sentence_with_its_unit(struct: type[Struct]) -> None:
    for field, sentence in described_fields(struct):
        at = f"{struct.__name__}.{field.name}: {sentence!r}"
        assert re.fullmatch(r"(?s)[A-Z`].{8,}\.", sentence), f"{at} is not a sentence"
        assert not re.search(r"\s\s|\n", sentence), f"{at} has a gap"
        for ending, unit in UNITS.items():
            if field.name.endswith(ending):
                assert unit in sentence.lower(), f"{at} does not name its unit"


@pytest.mark.parametrize("struct", STRUCTS)
def test_the_sentence_of_a_field_that_may_be_absent_says_what_that_means(struct: type[Struct]) -> None:
    """A reader who sees no field in a record has to know what that means."""
    for field, sentence in described_fields(struct):
        if not field.required and default_of(field) not in ("", [], {}):
            assert "absent" in sentence, f"{struct.__name__}.{field.name}: {sentence!r} does not say what an absent field means"


@pytest.mark.parametrize("name", CONTRACT)
def test_an_example_is_valid_for_its_schema_and_its_decoder(name: str) -> None:
    schema, value = json_schema(name), example(name)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(value)
    decoded = json.decode(json.encode(value), type=CONTRACT[name].struct)
    assert decoded == json.decode(json.encode(decoded), type=CONTRACT[name].struct)
    assert schema["examples"] == [value]


def damaged(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The value without each field, with each field of another type, and with a field that nobody knows."""
    odd: list[Any] = [{"odd": [None]}, "text", -7, 1.5, True, [None], None]
    return [
        *({name: one for name, one in value.items() if name != left_out} for left_out in value),
        *({**value, name: wrong} for name in value for wrong in odd),
        {**value, "nobody_knows": 1},
    ]


@pytest.mark.parametrize("name", CONTRACT)
def test_schema_and_decoder_refuse_the_same(name: str) -> None:
    """Raw JSON is not looked into by the decoder, and is described by no schema either."""
    validator, struct = Draft202012Validator(json_schema(name)), CONTRACT[name].struct
    refused = 0
    for value in damaged(example(name)):
        try:
            json.decode(json.encode(value), type=struct)
        except ValidationError:
            refused += 1
            assert not validator.is_valid(value), value
        else:
            assert validator.is_valid(value), value
    assert refused


class Recorded(World):
    """A world that keeps the names of headers that each topic's records have."""

    def __init__(self) -> None:
        self.headers: dict[str, list[set[str]]] = {}
        super().__init__()

    def _keep(self, place: TopicPartition, record: Record) -> None:
        self.headers.setdefault(place.topic, []).append({name for name, _ in record.headers})
        super()._keep(place, record)


def test_records_have_the_headers_that_the_contract_says() -> None:
    world = Recorded()
    world.worker(names=["charge"])
    world.put("task.created", {"name": "charge", "id": "t"}, traceparent=TRACEPARENT.encode(), replyto=b"0:token")
    world.step()
    [command] = world.dispatched()
    world.complete(command, {"receipt": 1})
    world.step()
    assert world.types("t")[-1] == "task.completed"
    for form in (FORMS["events"], FORMS["commands"], FORMS["replies"]):
        found = world.headers[form.topic.replace("<pool>", "default")]
        assert set.intersection(*found) == form.headers.keys(), form.topic
        assert set.union(*found) == form.headers.keys() | form.optional.keys(), form.topic
    taken = {name for record in world.intake for name, _ in record.headers}
    assert taken <= FORMS["reports"].headers.keys() | FORMS["reports"].optional.keys()


@pytest.mark.parametrize("kind", FORMS)
def test_every_header_has_a_sentence(kind: Kind) -> None:
    for name, sentence in [*FORMS[kind].headers.items(), *FORMS[kind].optional.items()]:
        assert re.fullmatch(r"[A-Z`].{8,}\.", sentence), f"{name}: {sentence!r} is not a sentence"
    assert all("absent" in sentence or "same" in sentence for sentence in FORMS[kind].optional.values())


def test_the_example_of_a_submission_is_admitted() -> None:
    world = World()
    world.put("task.created", example("reports/task.created"))
    world.step()
    assert world.types().count("task.created") == 4
    assert "task.rejected" not in world.types()


def test_the_schema_of_an_event_has_the_identity_that_events_name() -> None:
    for event_type in CATALOGUE:
        assert json_schema(f"events/{event_type}")["$id"] == schema_of(event_type)


def test_a_type_is_found_by_its_name_without_the_kind() -> None:
    assert find_types("attempt.execute") == ["commands/attempt.execute"]
    assert find_types("events/task.created") == ["events/task.created"]
    assert find_types("task.created") == ["events/task.created", "reports/task.created"]
    assert find_types("task.create") == []


def test_a_required_field_without_an_example_is_named() -> None:
    class Undescribed(Struct):
        """A struct."""

        count: int

    with pytest.raises(ValueError, match=r"Undescribed\.count"):
        example_of_struct(Undescribed)
    assert described_fields(Undescribed)[0][1] == ""


def test_the_outermost_description_of_a_field_wins() -> None:
    from typing import Annotated

    inner = Annotated[int, about("Inner.", 1)]

    class Nested(Struct):
        """A struct."""

        count: Annotated[inner | None, about("Outer.", 2)] = None

    assert schema_of_struct(Nested)["properties"]["count"]["description"] == "Outer."
    assert example_of_struct(Nested) == {"count": 2}
