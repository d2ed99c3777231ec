"""Error messages for JSON that does not match a type, of the form "field: what is wrong with its value"."""

import re

from msgspec import MsgspecError, ValidationError

#: Names of JSON types in messages.
_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$")
_EXPECTED = re.compile(r"Expected `([^`]+)`(?: of length)?(.*?)(?:, got `([^`]+)`)?$", re.DOTALL)
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)


def decoding_problem(error: MsgspecError) -> str:
    """The message for an error of msgspec's decoders: path of the field, colon, problem. A key that msgspec does not report is
    `*`: `tasks.*.name`. Quoted values are not escaped."""
    if not isinstance(error, ValidationError):
        return f"it is not JSON: {_syntax(str(error))}"
    text = str(error)
    place = _PLACE.search(text)
    path = place[1].replace("[...]", ".*").lstrip(".") if place is not None else ""
    field, problem = _what(text[: place.start()] if place is not None else text)
    where = ".".join(part for part in (path, field) if part)
    return f"{where}: {problem}" if where else problem


def _syntax(text: str) -> str:
    return "it ends too early" if text == "Input data was truncated" else text.removeprefix("JSON is malformed: ")


def _what(text: str) -> tuple[str, str]:
    """The name of a field within the location, if the message has one, and the problem."""
    if (named := _NAMED.match(text)) is not None:
        return named[2], "is missing" if named[1].startswith("missing") else "there is no such field"
    if (expected := _EXPECTED.match(text)) is not None:
        wanted = " or ".join(_TYPES.get(name, name) for name in expected[1].split(" | "))
        bound = expected[2].replace("<=", "at most").replace(">=", "at least").replace("<", "below").replace(">", "above")
        if bound:
            wanted += f" of{bound}{' characters' if 'of length' in text else ''}"
        got = f", not {_TYPES.get(expected[3], expected[3])}" if expected[3] else ""
        return "", f"must be {wanted}{got}"
    if text.startswith("Invalid enum value "):
        return "", f"{text.removeprefix('Invalid enum value ')} is not an allowed value"
    return "", text[:1].lower() + text[1:]
