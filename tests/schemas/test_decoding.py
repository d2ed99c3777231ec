"""What is wrong with JSON of a type is said as the field, and what is wrong with it."""

from typing import Any

import pytest
from msgspec import MsgspecError, json

from schemas import Submission, decoding_problem
from schemas.reports import WorkerHeartbeat


@pytest.mark.parametrize(
    ("struct", "value", "problem"),
    [
        (Submission, '{"name": "a", "priority": "high"}', "priority: must be an integer or null, not a string"),
        (Submission, '{"name": "a", "prioritty": 1}', "prioritty: there is no such field"),
        (Submission, "{}", "name: is missing"),
        (Submission, '{"name": "a", "tasks": {"x": {"nope": 1}}}', "tasks.*.nope: there is no such field"),
        (Submission, '{"name": "a", "tasks": {"x": {}}}', "tasks.*.name: is missing"),
        (Submission, '{"name": "a", "depends_on": [{"task": 1}]}', "depends_on[0].task: must be a string, not an integer"),
        (Submission, '{"name": "a", "retry": {"backoff": [true]}}', "retry.backoff[0]: must be a number, not true or false"),
        (Submission, '{"name": "a", "delivery": "once"}', "delivery: 'once' is not an allowed value"),
        (Submission, '{"name": "a", "priority": 1e400}', "priority: number out of range"),
        (Submission, "[1]", "must be an object, not a list"),
        (Submission, '{"name"', "it is not JSON: it ends too early"),
        (Submission, '{"name": "a" 1}', "it is not JSON: expected ',' or '}' (byte 13)"),
        (WorkerHeartbeat, '{"credit": -1}', "credit: must be an integer of at least 0"),
        (WorkerHeartbeat, '{"pool": "' + "p" * 300 + '"}', "pool: must be a string of at most 255 characters"),
        (dict[int, str], '{"a": "b"}', "must be an integer, not a string"),
    ],
)
def test_the_field_comes_first(struct: Any, value: str, problem: str) -> None:
    with pytest.raises(MsgspecError) as error:
        json.decode(value, type=struct)
    assert decoding_problem(error.value) == problem
