"""How a field is declared: `Annotated[<type>, about("<a sentence>", <an example of its value>)]`.

The sentence has the unit, the bounds, and the meaning of an absent field; `hub events show`, `hub schema` and the exported
JSON Schemas print it. msgspec reads `Meta` when it builds a decoder, not for each value, so it has no cost at run time. Fields
shared by many structs are declared here once.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from .ids import ID_BYTES_MAX


def about(description: str, *examples: Any) -> Meta:
    """Describe a field, with examples of its value as JSON types. The example of the struct uses the first one."""
    return Meta(description=description, examples=list(examples) or None)


def short(what: str, example: str, *, absent: str = "none") -> Meta:
    """Describe a text field of at most ID_BYTES_MAX bytes in UTF-8. Decoders accept longer values, so that admission can
    reject them with the name of the field: see `byte_bounds`."""
    description = f"{what}, at most {ID_BYTES_MAX} bytes; absent: {absent}."
    return Meta(description=description, examples=[example], extra={"bytes_max": ID_BYTES_MAX})


def byte_bounds(struct: type[Struct]) -> dict[str, int]:
    """The fields of a struct that are declared with `short`, and their maximum size in bytes."""
    return {
        field.name: fact.extra["bytes_max"]
        for field in structs.fields(struct)
        for fact in getattr(field.type, "__metadata__", ())
        if fact.extra and "bytes_max" in fact.extra
    }


WORKER = "01890a5d-ac96-774b-bcce-b302099a8057"
TASK = "order-7"
TOKEN = "0/42/3"
TIME = "2026-01-01T09:30:00.250Z"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

TaskId = Annotated[str, about("Id of the task; 1 to 255 bytes.", TASK)]
RootId = Annotated[str, about("Id of the root task: of the workflow, or of the task itself if it is not a step.", TASK)]
TaskName = Annotated[str, about("Name of the task, by which a worker finds its handler; 1 to 255 bytes.", "charge")]
TaskVersion = Annotated[str | None, short("Version of the handler", "2", absent="the default version of the name")]
StepKey = Annotated[
    str | None, about("Key of the step in its workflow, at most 255 bytes; absent: the task is not a step.", "pack")
]
Queue = Annotated[str, about("Queue of the task, 1 to 255 bytes; absent: default.", "mail")]
RequiredQueue = Annotated[str, about("Queue of the task; 1 to 255 bytes.", "mail")]
Priority = Annotated[
    int, about("Priority of the task, -1,000,000 to 1,000,000: the larger is dispatched first within a queue; absent: 0.", 5)
]
Tags = Annotated[
    dict[str, str], about("Tags from the submission, at most 64 and 16 KiB as JSON; absent: none.", {"team": "billing"})
]
ParentId = Annotated[
    str | None, about("Id of the task that submitted this one, or of the root of a step; absent: none.", "day-end")
]

Attempt = Annotated[int, about("Number of the attempt, from 1; an attempt that never started is not counted.", 1)]
Dispatch = Annotated[int, about("Number of the dispatch, from 1, which increases with every command; 0 or absent: unknown.", 1)]
Token = Annotated[str, about("Token of the lease: the provenance of the dispatch; unique among all attempts.", TOKEN)]
Worker = Annotated[str, about("Incarnation of the worker: the UUID of one of its processes.", WORKER)]
ReportNumber = Annotated[
    int, about("Number of the worker's report that caused the event, counted per attempt from 1; 0 or absent: none.", 2)
]
LeaseSeconds = Annotated[
    float, about("Length of the lease: seconds without a heartbeat after which the attempt is lost; absent: 10 seconds.", 10.0)
]
TracePeriod = Annotated[
    int,
    about(
        "Period of the run in which the attempt was dispatched: the age of its root divided by `trace_max_age_seconds`. From 1 on"
        " the attempt is in a linked trace; 0 or absent: in the trace of the task.",
        0,
    ),
]
TraceLink = Annotated[
    str | None,
    about(
        "W3C trace context of the attempt that submitted the task without waiting for its end: the trace of the task is linked"
        " with it instead of continuing it; absent: none."
    ),
]
RanSeconds = Annotated[float | None, about("Run time of the body in seconds, by the worker's clock; absent: unknown.", 0.42)]
WaitedSince = Annotated[
    str | None, about("When the wait began that this event ends (RFC 3339, UTC); absent: the task did not wait.", TIME)
]
Reason = Annotated[str, about("Reason, as text for people; at most 4,096 characters; absent: none.", "asked by support")]
By = Annotated[str | None, about("Requester, at most 255 bytes; absent: unknown.", "support@example.com")]
Host = Annotated[str, about("Host name of the process; absent: unknown.", "host-3")]
Pid = Annotated[int, about("Process id on that host, from 1; 0 or absent: unknown.", 4711)]
Pool = Annotated[str, about("Pool of the worker; its commands topic is `hub.commands.<pool>`; 1 to 255 bytes.", "default")]
Inbox = Annotated[int, about("Partition of the pool's commands topic that the worker reads, from 0.", 3)]

Steps = Annotated[int, about("Number of steps of the workflow, including those not yet created.", 3)]
Completed = Annotated[int, about("Number of completed steps; absent: 0.", 2)]
Failed = Annotated[int, about("Number of failed steps; absent: 0.", 1)]
Cancelled = Annotated[int, about("Number of cancelled steps; absent: 0.", 0)]
Skipped = Annotated[int, about("Number of skipped steps; absent: 0.", 0)]
Expired = Annotated[int, about("Number of expired steps; absent: 0.", 0)]
