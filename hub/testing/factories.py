"""Events and submissions for tests: they match the schemas, and fields that are not given have example values."""

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import MsgspecError, json

from schemas import CATALOGUE, Event, EventBody, Submission, decode_event, decoding_problem, schema_of, source_of
from schemas.json_schema import example_of_struct

_NOTHING: Mapping[str, Any] = MappingProxyType({})

#: Default subject of events by kind of entity.
SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "task": "order-7",
        "subscriber": "console",
        "alert": "charge-fails/charge",
        "worker": "01890a5d-ac96-774b-bcce-b302099a8057",
        "definition": "0/*/charge@1",
        "engine": "0",
    }
)

#: Keys of `envelope`, with their defaults (`subject`: see SUBJECTS).
ENVELOPE: Mapping[str, Any] = MappingProxyType(
    {
        "subject": None,
        "sequence": 1,
        "run": 0,
        "epoch": 1,
        "time": "2026-01-01T09:30:00.250Z",
        "namespace": "default",
        "taskname": "charge",
        "rootid": None,
        "correlationid": None,
        "causationid": None,
        "traceparent": None,
        "from_state": None,
        "to_state": None,
    }
)


class EventRecord(NamedTuple):
    """A record of `hub.events` as written by the engine."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def make_event(event_type: str, /, *, envelope: Mapping[str, Any] = _NOTHING, **data: Any) -> Event:
    """An event of `event_type`. `data` has fields of its data; `envelope` may have `subject`, `sequence`, `run`, `epoch`,
    `namespace`, `taskname`, `rootid`, `correlationid`, `causationid`, `time`, `traceparent`, `from_state` and `to_state`.

    >>> event = make_event("task.failed", envelope={"subject": "order-8"}, attempt=3)

    Raises ValueError with the type or the field that does not match the schemas."""
    record = make_event_record(event_type, envelope=envelope, **data)
    return decode_event(record.value, record.headers)


def make_event_record(event_type: str, /, *, envelope: Mapping[str, Any] = _NOTHING, **data: Any) -> EventRecord:
    """The record of an event; see `make_event`."""
    row = CATALOGUE.get(event_type)
    if row is None:
        raise ValueError(f"{event_type!r} is not an event type; `hub events list` names them all")
    _check_names("envelope", envelope, ENVELOPE)
    given = {**ENVELOPE, "subject": SUBJECTS[row.entity], **envelope}
    entity, source = f"{row.entity}/{given['subject']}", f"0/{given['run']}/{given['sequence']}"
    body = EventBody(
        entity=entity,
        src=source,
        dataschema=schema_of(event_type),
        from_=given["from_state"],
        to=given["to_state"],
        data=_valid(row.data, data, f"data of {event_type}", example=_example_of(row.data)),
        **{name: given[name] for name in ("sequence", "run", "epoch", "rootid", "correlationid", "causationid")},
    )
    attributes = {
        "specversion": "1.0",
        "type": event_type,
        "source": source_of(given["namespace"] if row.entity == "task" else None, entity),
        "id": source,
        "subject": given["subject"],
        "time": given["time"],
        "severitynumber": str(row.severity),
        "traceparent": given["traceparent"],
        "sequence": f"{given['sequence']:010d}",
    }
    if row.entity == "task":
        attributes |= {"namespace": given["namespace"], "taskname": given["taskname"]}
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value is not None]
    key = given["rootid"] or given["subject"]
    return EventRecord(key.encode(), json.encode(body), [*headers, ("content-type", b"application/json")])


def make_submission(name: str = "charge", /, **fields: Any) -> dict[str, Any]:
    """A submission of the task `name`, for `Hub.submit_many` and `hub.intake`.

    Raises ValueError with the field that does not match the schema."""
    submission = {"name": name, **fields}
    _valid(Submission, submission, "submission")
    return submission


@cache
def _example_of(struct: Any) -> Mapping[str, Any]:
    return MappingProxyType(example_of_struct(struct))


def _valid(struct: Any, fields: Mapping[str, Any], what: str, *, example: Mapping[str, Any] = _NOTHING) -> Any:
    """An instance of `struct` from `example` and `fields`. Raises ValueError."""
    _check_names(what, fields, struct.__struct_encode_fields__)
    try:
        return json.decode(json.encode({**example, **fields}), type=struct)
    except MsgspecError as error:
        raise ValueError(f"{what}: {decoding_problem(error)}") from None
    except TypeError as error:
        raise ValueError(f"{what}: it cannot be written as JSON: {error}") from None


def _check_names(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ValueError(f"{what}: there is no field {unknown[0]!r}; the fields are {', '.join(sorted(known))}")
