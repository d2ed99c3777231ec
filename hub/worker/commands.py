"""Decodes commands from the inbox. Every Kafka client can write to this topic, so all records are validated here."""

from typing import Any

from msgspec import json

from schemas import (
    COMMANDS,
    DefinitionsWanted,
    EngineAnnounced,
    ExecuteAttempt,
    MalformedRecord,
    WorkWanted,
    check_id,
    header_map,
    printable,
    quoted,
)

from ..kafka import StoredRecord
from ..logs import Logger
from ..throttle import LogThrottle
from .effects import Command
from .figures import WorkerFigures

log = Logger(__name__)

#: The address (header `worker`) of commands to all workers of an inbox.
EVERYBODY = b"*"

_DECODERS: dict[bytes, Any] = {kind.encode(): json.Decoder(struct) for kind, struct in COMMANDS.items()}
_OF_A_PARTITION = (ExecuteAttempt, EngineAnnounced, WorkWanted, DefinitionsWanted)


class CommandReader:
    """Decodes the commands addressed to one incarnation. `partitions`: the number of engine partitions of the hub; `malformed`:
    the number of records that were not valid commands; `figures`: count the valid ones."""

    def __init__(self, incarnation: str, figures: WorkerFigures | None = None) -> None:
        self.figures = figures or WorkerFigures()
        self._addresses = (incarnation.encode(), EVERYBODY)
        self._throttle = LogThrottle()
        self.partitions = 0
        self.malformed = 0

    def read(self, record: StoredRecord) -> Command | None:
        """The command in a record. None if it is addressed to another worker, or is not a valid command; the latter is counted,
        and logged at a limited rate."""
        try:
            return self.decode(record)
        except MalformedRecord as error:
            self.malformed += 1
            more = self._throttle.admit("malformed")
            if more is not None:
                action, reason = "worker_command_malformed", str(error)
                log.warning(
                    "ignored a record that is not a valid command", action=action, offset=record.offset, reason=reason, more=more
                )
            return None

    def decode(self, record: StoredRecord) -> Command | None:
        """The command in a record; None if it is addressed to another worker. Raises only MalformedRecord."""
        headers = header_map(record.headers)
        if headers.get("worker") not in self._addresses:
            return None
        kind = headers.get("ce_type", b"")
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise MalformedRecord(f"ce_type: {quoted(kind.decode(errors='replace'))} is not the type of a command")
        try:
            command: Command = decoder.decode(record.value or b"")
        except (ValueError, RecursionError) as error:
            raise MalformedRecord(f"{kind.decode()}: {printable(str(error))}") from None
        self._check(command)
        self.figures.received(command)
        return command

    def _check(self, command: Command) -> None:
        if isinstance(command, _OF_A_PARTITION) and not 0 <= command.partition < self.partitions:
            number = quoted(str(command.partition))
            raise MalformedRecord(f"partition: must be between 0 and {self.partitions - 1}, got {number}")
        if isinstance(command, ExecuteAttempt):
            problem = (
                check_id(command.task, "task")
                or check_id(command.root, "root")
                or check_id(command.token, "token")
                or check_id(command.name, "name")
            )
            if problem is not None:
                raise MalformedRecord(problem)
