"""Events for trials of subscribers: the example of a type, or an event from a file."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError, convert, json

from schemas import CATALOGUE, EventBody, MalformedEvent, decode_event, decoding_problem, schema_of, source_of

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..delivery.administration import LoggedRecord

#: Subjects of example events, by kind of entity.
SUBJECTS = {"task": "order-7", "worker": "01890a5d-ac96-774b-bcce-b302099a8057", "definition": "0/*/charge@1", "engine": "0"}

#: Attributes of a structured CloudEvent that are headers of its record; the first ones are required.
REQUIRED = ("type", "source", "id", "subject", "time")
OPTIONAL = ("namespace", "taskname", "traceparent")

#: Attributes that are in the value of its record.
IN_VALUE = ("entity", "sequence", "run", "src", "epoch", "rootid", "correlationid", "causationid", "from", "to", "data")


def example_record(event_type: str) -> "LoggedRecord":
    """The record of the example of a type, with the present time."""
    from schemas.json_schema import example_of_struct

    row = CATALOGUE[event_type]
    subject, task = SUBJECTS[row.entity], row.entity == "task"
    entity = f"{row.entity}/{subject}"
    of_task = {"namespace": "default", "taskname": "charge"} if task else {}
    return _record(
        {
            "type": event_type,
            "id": "0/0/1",
            "source": source_of("default" if task else None, entity),
            "subject": subject,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "entity": entity,
            "sequence": 1,
            "run": 0,
            "epoch": 1,
            "data": example_of_struct(row.data),
            **of_task,
        }
    )


def record_in(text: str, origin: str) -> "LoggedRecord":
    """The record of the structured CloudEvent in `text`. Raises ConfigurationError, which begins with `origin`."""
    try:
        event = json.decode(text, type=dict[str, Any])
        if event.get("type") not in CATALOGUE:
            raise ConfigurationError(f"{origin}: type: {event.get('type')!r} is not an event type; see `hub events list`")
        record = _record(event)
        decode_event(record.value, record.headers)
    except MsgspecError as error:
        raise ConfigurationError(f"{origin}: {decoding_problem(error)}") from None
    except MalformedEvent as error:
        raise ConfigurationError(f"{origin}: {error}") from None
    return record


def _record(event: Mapping[str, Any]) -> "LoggedRecord":
    """The record of a structured CloudEvent. Raises MsgspecError, MalformedEvent."""
    from ..delivery.administration import LoggedRecord

    given = {"src": event.get("id"), **{name: event[name] for name in IN_VALUE if name in event}}
    body = convert({**given, "dataschema": schema_of(event["type"])}, EventBody)
    headers = _headers(event, body.sequence)
    key = body.rootid or str(event["subject"])
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return LoggedRecord(0, 0, now_ms, key.encode(), json.encode(body), tuple(headers))


def _headers(event: Mapping[str, Any], sequence: int) -> list[tuple[str, bytes]]:
    severity = event.get("severitynumber", CATALOGUE[event["type"]].severity)
    attributes = {"specversion": "1.0", "severitynumber": str(severity), "sequence": f"{sequence:010d}"}
    for name in (*REQUIRED, *OPTIONAL):
        value = event.get(name)
        if not isinstance(value, str) and (value is not None or name in REQUIRED):
            raise MalformedEvent(f"{name}: must be text")
        if value is not None:
            attributes[name] = value
    named = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    return [*named, ("content-type", b"application/json")]
