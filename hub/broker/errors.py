"""The exceptions of this package: a request through the door inside the process that is refused (`BrokerError`, with the
protocol's code), and a broker that cannot start or continue."""

from ..protocol import ErrorCode


class BrokerError(Exception):
    """A request through the door inside the process was refused; `code` says why in the protocol's terms."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code


class DataDirectoryInUse(Exception):
    """Another process holds the lock of the data directory."""


class AddressInUse(Exception):
    """The broker cannot listen on the given host and port."""


class StorageDamaged(Exception):
    """Stored bytes that were known to be on disk are not what was written. The broker refuses to start rather than
    serve a different log."""


class OtherFormat(Exception):
    """A data directory holds data of a format that this version does not read. `found` is None where it has no number."""

    def __init__(self, directory: str, found: str | None, wanted: int) -> None:
        super().__init__(f"{directory}: format {found}, not {wanted}")
        self.found, self.wanted = found, wanted


class MalformedBatch(ValueError):
    """The records of a batch cannot be read, though its checksum fits: its producer wrote them so."""
