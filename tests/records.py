"""Kafka records that every reader of a topic must handle: a Hypothesis strategy over key, value and headers.

Every record is valid for a broker, but not necessarily for its reader. `hostile_records` starts with well-formed records
(binary mode: `ce_*` headers; structured mode: one JSON document) of the given types and damages them: fields that are missing,
unknown, huge, deep, NaN or of another type; headers that are null, repeated, missing, huge or not UTF-8; values that are null,
truncated or arbitrary bytes. Some records are `good`, so that a reader cannot pass by rejecting everything.

Huge parts repeat a short unit, so that they are cheap to generate; they are rare enough for millions of records.
"""

import base64
from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct, json, structs

from hub.kafka import StoredRecord

Headers = list[tuple[str, bytes | None]]

#: Settings of a test over these records: a slow machine is not a failure, and a huge record not a mistake of the strategy.
PATIENT = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

#: For a test whose examples are dear.
FEW = settings(PATIENT, max_examples=25)

#: Units of what is huge: plain, and what grows sixfold in JSON, is not UTF-8, opens nesting or is cut within a character.
UNITS = (b"a", b"\x01", b"\\", b'"', b"\x00", b"\xff", b"[", b'{"a":', "ü".encode(), b" ", b"\xed\xa0\x80", b"9", b"\n")

#: Sizes around the bounds of identifiers, headers, arguments and reports, in bytes (the last is above every one of them).
SIZES = (64, 255, 256, 1_024, 1_025, 5_000, 20_000, 70_000, 300_000, 2_000_000)

#: JSON as it stands where a field's value should be.
ODD_JSON = (
    b"null", b"true", b"0", b"-1", b"1", b"1.5", b"-0.0", b"1e308", b"-5e300", b"1e999", b"NaN", b"Infinity", b"-Infinity",
    b"9223372036854775808", b"-9223372036854775809", b"1" * 400, b"9" * 5_000, b"01", b"1.", b'""', b'" "', b'"*"', b'"\\u0000"',
    b'"\\ud800"', b'"\\n\\u001b[2J"', b'"M\xfcnchen"', "\"ünïcode \U0001f9ea\"".encode(), b'"a\x00b"', b'"../../x"', b'"0"',
    b'"2026-01-01T00:00:00Z"', b'"9999-12-31T23:59:59.999999999Z"', b'"0000-00-00"', b"[]", b"{}", b"[null]", b"[[],{}]",
    b'{"a":1,"a":2}', b'["a","a"]', b'{"":""}', b"[1e999]", b'{"task":"x","on":"never"}', b"[" * 200 + b"]" * 200,
    b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"", b"{", b"]", b"undefined",
)  # fmt: skip

#: Bytes as they stand where a header's value should be.
ODD_HEADERS = (
    b"", b" ", b"\x00", b"\xff\xfe", b"\xc3", b"\n\x1b[2J", b"1.0", b"0", b"-1", b"*", b"/", b"../..", b"0:", b":t", b"0:t",
    b"999999999999999999999:t", b"-1:t", "ü".encode(), b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"0" * 55,
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00", b"0/1", b"1/0", b"7/99999999999999999999", b"-1/-1", b"a/b", b"99:t",
    b"application/cloudevents+json", b"text/plain; charset=latin-1",
)  # fmt: skip

#: Names of fields as they stand in a JSON object.
ODD_NAMES = (
    b'"unknown"',
    b'""',
    b'"\\u0000"',
    b'"\xff"',
    b'"__class__"',
    b"1",
    b"null",
    b'"data"',
    b'"id"',
    b'"root_id"',
    b'"tasks"',
)

#: Headers that some reader looks at, whatever its topic.
KNOWN_HEADERS = (
    "ce_specversion", "ce_type", "ce_source", "ce_id", "ce_subject", "ce_time", "ce_severitynumber", "ce_taskname",
    "ce_namespace", "ce_traceparent", "ce_replyto", "ce_data", "ce_data_base64", "content-type", "traceparent", "replyto",
    "hub-origin", "worker", "dlq_subscriber", "",
)  # fmt: skip


class WholeRecord(NamedTuple):
    """A record as a producer hands it to a broker."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    def stored(self, offset: int, timestamp_ms: int = 1_700_000_000_000) -> StoredRecord:
        """The record as a reader of the partition gets it."""
        return StoredRecord(offset, timestamp_ms, self.key, self.value, self.headers)

    @property
    def size(self) -> int:
        """Bytes of key, value and headers, for a limit of the topic."""
        headers = sum(len(name.encode()) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class Example(NamedTuple):
    """A well-formed record of one type: the fields of its value, its further headers, its key."""

    payload: Mapping[str, Any]
    headers: Mapping[str, bytes] = {}
    key: bytes | None = None


def binary(kind: str, example: Example) -> WholeRecord:
    """The well-formed record in the binary mode of CloudEvents."""
    headers: Headers = [("ce_type", kind.encode()), *example.headers.items()]
    return WholeRecord(example.key, json.encode(example.payload), headers)


def structured(kind: str, example: Example) -> WholeRecord:
    """The well-formed record in the structured mode of CloudEvents; headers that are not attributes stay headers."""
    attributes = {name.removeprefix("ce_"): value.decode() for name, value in example.headers.items() if name.startswith("ce_")}
    others = [(name, value) for name, value in example.headers.items() if not name.startswith("ce_") and name != "content-type"]
    document = {"specversion": "1.0", **attributes, "type": kind, "data": example.payload}
    headers: Headers = [("content-type", b"application/cloudevents+json"), *others]
    return WholeRecord(example.key, json.encode(document), headers)


def example_of(struct: type[Struct], **fields: Any) -> dict[str, Any]:
    """The payload of a well-formed record of `struct`: `fields`, and something for every other field that is required."""
    wanted = {field.name: _something(field.type) for field in structs.fields(struct) if field.required}
    payload: dict[str, Any] = json.decode(json.encode(json.decode(json.encode(wanted | fields), type=struct)))
    return payload


def _something(wanted: Any) -> Any:
    """A value of the type of a field, as plain JSON types."""
    if get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    if isinstance(wanted, type) and issubclass(wanted, Struct):
        return example_of(wanted)
    if get_origin(wanted) is Literal:
        return get_args(wanted)[0]
    if get_origin(wanted) is list:
        return []
    return {str: "x", int: 0, float: 1.0, bool: True}[wanted]


def hostile_records(
    examples: Mapping[str, Sequence[Example]],
    *,
    structured_mode: bool = False,
    huge_bytes_max: int = SIZES[-1],
    shrinkable: bool = True,
) -> st.SearchStrategy[WholeRecord]:
    """Records around the well-formed `examples` (type name → examples of it).

    `structured_mode`: also structured CloudEvents, with `data` or `data_base64`. `huge_bytes_max`: bytes of the largest part.
    `shrinkable` false: a record is one number to Hypothesis, which makes it more than twice as fast (for a million records); a
    failing list of records still shrinks to the record that fails.
    """
    source = Damage(examples, structured_mode=structured_mode, huge_bytes_max=huge_bytes_max)
    if shrinkable:
        return st.randoms(use_true_random=False).map(source.record)
    return st.integers(0, 2**63).map(lambda seed: source.record(Random(seed)))


class Damage:
    """Makes records around examples, from a source of random choices."""

    def __init__(self, examples: Mapping[str, Sequence[Example]], *, structured_mode: bool, huge_bytes_max: int) -> None:
        self._seeds = [(kind, example) for kind, of_kind in examples.items() for example in of_kind]
        self._structured_mode = structured_mode
        self._sizes = [size for size in SIZES if size <= huge_bytes_max]

    def record(self, random: Random) -> WholeRecord:
        """One record; about one in twelve is well-formed."""
        kind, example = random.choice(self._seeds)
        fields = self._fields(random, _fragments(example.payload))
        if self._structured_mode and random.choice((True, False)):
            record = self._structured(random, kind, example, fields)
        else:
            headers: Headers = [("ce_type", kind.encode()), *example.headers.items()]
            record = WholeRecord(example.key, _document(fields), headers)
        key = self._header(random) if random.randrange(6) == 0 else record.key
        value = self._value(random, record.value or b"") if random.randrange(6) == 0 else record.value
        return WholeRecord(key, value, self._headers(random, record.headers))

    # Values

    def _huge(self, random: Random, at_most: int = SIZES[-1]) -> bytes:
        """A short unit, repeated. The largest sizes are rare."""
        sizes = self._sizes if random.randrange(16) == 0 else self._sizes[:-3] or self._sizes
        unit, size = random.choice(UNITS), min(random.choice(sizes), at_most)
        return unit * max(1, size // len(unit))

    def _json(self, random: Random) -> bytes:
        """What stands where a field's value should be."""
        match random.randrange(12):
            case 0:
                return self._huge(random)
            case 1:
                return b'"' + self._huge(random).replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
            case 2:
                return json.encode(self._huge(random, 300_000).decode(errors="replace"))
            case 3:
                return _nested(random, 3)
            case 4:
                count = random.choice((3, 70, 300)) if random.randrange(8) else 20_000
                return b"{" + b",".join([b'"k%d":"v"' % number for number in range(count)]) + b"}"
            case _:
                return random.choice(ODD_JSON)

    def _fields(self, random: Random, fields: Mapping[str, bytes]) -> list[tuple[bytes, bytes]]:
        """The fields with up to three damages (often none): one of another value, gone, twice, unknown."""
        pairs = [(json.encode(name), value) for name, value in fields.items()]
        for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3))):
            at = random.randrange(max(1, len(pairs)))
            how = random.choice(("value", "value", "value", "gone", "twice", "unknown"))
            if how == "unknown" or not pairs:
                pairs.insert(at, (self._name(random), self._json(random)))
            elif how == "value":
                pairs[at] = (pairs[at][0], self._json(random))
            elif how == "gone":
                del pairs[at]
            else:
                pairs.append((pairs[at][0], self._json(random)))
        return pairs

    def _name(self, random: Random) -> bytes:
        if random.randrange(6) == 0:
            return json.encode(self._huge(random, 70_000).decode(errors="replace"))
        return random.choice(ODD_NAMES)

    def _value(self, random: Random, whole: bytes) -> bytes | None:
        """Null, cut, with something before or after it, or arbitrary."""
        match random.randrange(6):
            case 0:
                return None
            case 1:
                return whole[: random.randrange(max(1, len(whole)))]
            case 2:
                return random.choice((b"\xef\xbb\xbf", b"\x00", b" ", b"\xff\xfe")) + whole
            case 3:
                return whole + random.choice((b"\x00", b"}", b" " * 5_000, whole))
            case 4:
                return _bytes(random)
            case _:
                return self._json(random)

    def _structured(self, random: Random, kind: str, example: Example, fields: list[tuple[bytes, bytes]]) -> WholeRecord:
        whole = structured(kind, example)
        attributes = {name: bytes(value) for name, value in json.decode(whole.value or b"{}", type=dict[str, Raw]).items()}
        attributes["data"] = _document(fields)
        if random.randrange(4) == 0:
            attributes["data_base64"] = json.encode(base64.b64encode(attributes.pop("data")).decode())
        pairs = [(json.encode(name), value) for name, value in attributes.items()]
        if random.randrange(2):
            pairs = self._fields(random, attributes)
        return WholeRecord(whole.key, _document(pairs), whole.headers)

    # Headers

    def _header(self, random: Random) -> bytes | None:
        match random.randrange(6):
            case 0 | 1:
                return None
            case 2:
                return _bytes(random)
            case 3:
                return self._huge(random)
            case _:
                return random.choice(ODD_HEADERS)

    def _header_name(self, random: Random) -> str:
        match random.randrange(6):
            case 0:
                return self._huge(random, 20_000).decode(errors="replace")
            case 1:
                return _bytes(random).decode(errors="replace")
            case _:
                return random.choice(KNOWN_HEADERS)

    def _headers(self, random: Random, headers: Headers) -> Headers:
        """The headers with up to three damages (often none): one null, of another value, gone, twice, unknown; another order."""
        damaged = list(headers)
        for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
            at = random.randrange(max(1, len(damaged)))
            how = random.choice(("null", "null", "value", "value", "gone", "twice", "unknown", "order", "none"))
            if how == "none":
                damaged = []
            elif how == "unknown" or not damaged:
                damaged.insert(at, (self._header_name(random), self._header(random)))
            elif how == "null":
                damaged[at] = (damaged[at][0], None)
            elif how == "value":
                damaged[at] = (damaged[at][0], self._header(random))
            elif how == "gone":
                del damaged[at]
            elif how == "twice":
                damaged.insert(random.randrange(len(damaged) + 1), (damaged[at][0], self._header(random)))
            else:
                damaged.reverse()
        return damaged


def _fragments(payload: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: json.encode(value) for name, value in payload.items()}


def _document(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"{" + b",".join([name + b":" + value for name, value in fields]) + b"}"


def _bytes(random: Random) -> bytes:
    return bytes([random.randrange(256) for _ in range(random.randrange(20))])


def _nested(random: Random, depth: int) -> bytes:
    """Any small JSON value."""
    match random.randrange(6) if depth else 0:
        case 0:
            return json.encode(random.choice((None, True, 0, -7, 2**70, 0.5, "", "a", "\x00", "ü")))
        case 1 | 2 | 3:
            return b"[" + b",".join([_nested(random, depth - 1) for _ in range(random.randrange(4))]) + b"]"
        case _:
            return _document([(b'"%d"' % number, _nested(random, depth - 1)) for number in range(random.randrange(4))])
