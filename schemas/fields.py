"""How a field is declared: `Annotated[<type>, about("<a sentence>", <an example of its value>)]`.

The sentence gives the unit, the bounds, and what an absent field means; `hub events show`, `hub schema` and the exported JSON
Schemas print it. msgspec reads `Meta` when it builds a decoder, and not for each value: it costs nothing later. Terms that many
structs share are declared here, once.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from .ids import ID_BYTES_MAX


def about(description: str, *examples: Any) -> Meta:
    """The description of a field and examples of its value, as JSON types. The first example is in the example of the struct."""
    return Meta(description=description, examples=list(examples) or None)


def short(what: str, example: str, *, absent: str = "none") -> Meta:
    """The description of a text of at most ID_BYTES_MAX bytes in UTF-8. A decoder takes a longer one, so that whoever admits it
    can reject it with the field's name: see `byte_bounds`."""
    description = f"{what}, at most {ID_BYTES_MAX} bytes; absent: {absent}."
    return Meta(description=description, examples=[example], extra={"bytes_max": ID_BYTES_MAX})


def byte_bounds(struct: type[Struct]) -> dict[str, int]:
    """The fields of a struct that are declared as `short`, and the most bytes of each."""
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
RootId = Annotated[str, about("Id of the root task: of the workflow, or of the task itself where it is not a step.", TASK)]
TaskName = Annotated[str, about("Name of the task, by which a worker finds its handler; 1 to 255 bytes.", "charge")]
TaskVersion = Annotated[str | None, short("Version of the handler", "2", absent="the default version of the name")]
StepKey = Annotated[
    str | None, about("Key of the step in its workflow, at most 255 bytes; absent where the task is not a step.", "pack")
]
Queue = Annotated[str, about("Queue of the task, 1 to 255 bytes; absent: default.", "mail")]
RequiredQueue = Annotated[str, about("Queue of the task; 1 to 255 bytes.", "mail")]
Priority = Annotated[
    int, about("Priority of the task, -1,000,000 to 1,000,000: the larger is dispatched first within a queue; absent: 0.", 5)
]
Tags = Annotated[
    dict[str, str], about("Tags that the submission gave, at most 64 and 16 KiB as JSON; absent: none.", {"team": "billing"})
]
ParentId = Annotated[str | None, about("Id of the task that submitted this one, or of a step's root; absent: none.", "day-end")]

Attempt = Annotated[int, about("Number of the attempt, from 1; an attempt that never started is not counted.", 1)]
Dispatch = Annotated[
    int, about("Number of the task's dispatch, from 1: it grows with every command that is issued; 0 or absent: unknown.", 1)
]
Token = Annotated[str, about("Token of the lease: the provenance of the dispatch; unique among all attempts.", TOKEN)]
Worker = Annotated[str, about("Incarnation of the worker: the UUID of one of its processes.", WORKER)]
ReportNumber = Annotated[
    int, about("Number of the worker's report of this attempt that caused the event, from 1; 0 or absent: none did.", 2)
]
LeaseSeconds = Annotated[
    float, about("Length of the lease: seconds of silence after which the worker has lost the attempt; absent: 10 seconds.", 10.0)
]
RanSeconds = Annotated[
    float | None, about("How long the body ran, in seconds, by the worker's clock; absent where the worker does not say.", 0.42)
]
Reason = Annotated[
    str, about("Why, as text for people; at most 4,096 characters; absent: no reason was given.", "asked by support")
]
By = Annotated[str | None, about("Who asked, at most 255 bytes; absent: unknown.", "support@example.com")]
Host = Annotated[str, about("Name of the host of the process; absent: unknown.", "host-3")]
Pid = Annotated[int, about("Process id on that host, from 1; 0 or absent: unknown.", 4711)]
Pool = Annotated[str, about("Pool of the worker, which names its topic `hub.commands.<pool>`; 1 to 255 bytes.", "default")]
Inbox = Annotated[int, about("Partition of the pool's commands topic that the worker reads, from 0.", 3)]

Steps = Annotated[int, about("How many steps the workflow has, created or not.", 3)]
Completed = Annotated[int, about("How many steps have completed; absent: 0.", 2)]
Failed = Annotated[int, about("How many steps have failed; absent: 0.", 1)]
Cancelled = Annotated[int, about("How many steps were cancelled; absent: 0.", 0)]
Skipped = Annotated[int, about("How many steps were skipped; absent: 0.", 0)]
Expired = Annotated[int, about("How many steps have expired; absent: 0.", 0)]
