"""What a validator of pydantic refuses is said in our own words: the field, and what is wrong with it."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hub.validation import fault_of, place_of


class Inner(BaseModel):
    number: int = 0


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    on: bool = False
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    several: list[Inner] = []
    few: list[int] = Field([], max_length=2)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("Odd: give an even number")
        return value


@pytest.mark.parametrize(
    ("values", "place", "says"),
    [
        ({}, "name", "is missing"),
        ({"name": 1}, "name", "must be a string"),
        ({"name": "n", "nmae": 1}, "nmae", "there is no such field"),
        ({"name": "n", "count": "x"}, "count", "must be an integer"),
        ({"name": "n", "count": 1.5}, "count", "must be an integer"),
        ({"name": "n", "count": 0}, "count", "must be at least 1"),
        ({"name": "n", "count": 10}, "count", "must be at most 9"),
        ({"name": "n", "share": "x"}, "share", "must be a number"),
        ({"name": "n", "share": 0}, "share", "must be above 0.0"),
        ({"name": "n", "share": 1}, "share", "must be below 1.0"),
        ({"name": "n", "on": "perhaps"}, "on", "must be true or false"),
        ({"name": "n", "kind": "c"}, "kind", "must be 'a' or 'b'"),
        ({"name": "n", "inner": 1}, "inner", "must be an object of named values"),
        ({"name": "n", "inner": {"number": []}}, "inner.number", "must be an integer"),
        ({"name": "n", "several": 1}, "several", "must be a list"),
        ({"name": "n", "several": [{}, {"number": None}]}, "several[1].number", "must be an integer"),
        ({"name": "n", "even": 1}, "even", "Odd: give an even number"),
        ({"name": "n", "few": [1, 2, 3]}, "few", "list should have at most 2 items after validation, not 3"),
    ],
)
def test_a_fault_is_a_place_and_a_sentence(values: dict[str, Any], place: str, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        Model.model_validate(values)
    (fault,) = error.value.errors()
    assert place_of(fault["loc"], "args") == f"args.{place}"
    assert (place_of(fault["loc"]), fault_of(fault)) == (place, says)
