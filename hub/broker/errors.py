"""The exceptions of this package: a rejected request of the in-process API (`BrokerError`, with Kafka's error code), and
errors that keep the broker from starting or continuing."""

from ..protocol import ErrorCode


class BrokerError(Exception):
    """The broker rejected a request; `code` is the error code of Kafka's protocol."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code


class DataDirectoryInUse(Exception):
    """Another process has locked the data directory."""


class AddressInUse(Exception):
    """The broker cannot listen on the given host and port."""


class StorageDamaged(Exception):
    """Data that was synced to disk is missing or fails its checksum. The broker does not start, because it would serve a
    different log."""


class OtherFormat(Exception):
    """A data directory has a format that this version cannot read. `found` is its format number, None if it has none."""

    def __init__(self, directory: str, found: str | None, wanted: int) -> None:
        super().__init__(f"{directory} has format {found}, expected {wanted}")
        self.found, self.wanted = found, wanted


class MalformedBatch(ValueError):
    """The records of a batch cannot be decoded although its checksum is correct: its producer wrote invalid data."""
