"""What a worker says, as records for `hub.intake`."""

from itertools import count

from msgspec import Struct, json

from schemas import reports as r

from ..kafka import INTAKE, Outgoing
from .attempts import STARTED_NUMBER, Attempt

_encoder = json.Encoder()


class Words:
    """The reports of one incarnation; from any thread."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._source = f"/worker/{incarnation}".encode()
        self._event_ids = count(1)  # one step of the interpreter: the heartbeat thread counts here too

    def outgoing(self, kind: str, value: Struct, partition: int, *, key: str | None = None) -> Outgoing:
        """A report for an engine partition; `key` is the worker itself where none is given."""
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_type", kind.encode()),
            ("ce_source", self._source),
            ("ce_id", b"%d" % next(self._event_ids)),
            ("content-type", b"application/json"),
        ]
        return Outgoing(INTAKE, partition, (key or self._incarnation).encode(), _encoder.encode(value), headers)

    def of_attempt(self, attempt: Attempt, kind: str, report: type[r.AttemptReport], **fields: object) -> Outgoing:
        """A report of an attempt, numbered."""
        run = attempt.run
        if report is not r.AttemptStarted:
            attempt.number += 1
        value = report(
            task=run.task,
            root=run.root,
            attempt=run.attempt,
            dispatch=run.dispatch,
            token=run.token,
            incarnation=self._incarnation,
            number=STARTED_NUMBER if report is r.AttemptStarted else attempt.number,
            **fields,
        )
        return self.outgoing(kind, value, run.partition, key=run.root)
