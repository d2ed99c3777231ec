"""Messages for pydantic's validation errors: the location, and the end of a sentence about the value."""

from collections.abc import Mapping, Sequence
from typing import Any

_WANTED = {
    "int": "an integer",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "a string",
    "list": "a list",
    "tuple": "a list",
    "set": "a list of different values",
    "dict": "an object of named values",
    "mapping": "an object of named values",
    "model": "an object of named values",
    "dataclass": "an object of named values",
    "none": "null",
}
_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "int_from_float": "must be an integer",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def fault_of(fault: Mapping[str, Any]) -> str:
    """The message for one of `ValidationError.errors()`. For an unknown type of error it is pydantic's message."""
    kind = str(fault["type"])
    if (sentence := _SENTENCES.get(kind)) is not None:
        return sentence.format(**fault.get("ctx", {}))
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_attributes_type", "_required", "_class")):
        return f"must be {wanted}"
    text = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be ", "must be ").replace("Input should have ", "must have ")
    return text if kind == "value_error" else f"{text[:1].lower()}{text[1:]}"


def place_of(path: Sequence[int | str], at: str = "") -> str:
    """The location of an error (`loc`) below `at`, for example `retry.backoff[0]`; `at` for the value itself."""
    below = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{at}{below}" if at else below.removeprefix(".")
