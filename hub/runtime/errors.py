"""Errors that keep a process of the hub from running; each message has a remedy."""

from pathlib import Path

from ..errors import ConfigurationError, HubError, InUse


class PortTaken(InUse):
    """Another process uses the address of the embedded broker."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"The embedded broker cannot listen on {host}:{port} ({reason})."
            " Stop the process that uses the port, or choose another one with --port (0 selects a free port)."
        )


class DataDirectoryTaken(InUse):
    """Another hub uses the data directory."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The data directory {reason}. Stop that hub, or choose another directory with --data.")


class DataOfOtherFormat(ConfigurationError):
    """A data directory has a format that this version cannot read. `found`: None if it has no format number."""

    def __init__(self, directory: Path | None, found: str | None, wanted: int) -> None:
        was = "has no format number, since an earlier version wrote it" if found is None else f"is of format {found!r}"
        super().__init__(
            f"The data in {directory} {was}, and this version reads format {wanted} only:"
            " drain the hub with the version that wrote it, then start over with another --data."
        )


class OutputFailed(HubError):
    """stdout cannot be written, for a reason other than a closed pipe."""

    def __init__(self, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        super().__init__(f"stdout cannot be written ({reason}). Redirect it to another file, or to /dev/null.")


class ProcessFailed(HubError):
    """A service in this process failed, or a child process does not start."""


class ChildFailed(HubError):
    """A child process exited before it was ready for the first time. If its exit code is in `SAYS_WHY`, it has printed the
    reason."""

    SAYS_WHY = (2, 3, 4)

    def __init__(self, name: str, code: int, how: str) -> None:
        super().__init__(f"The {name} did not start ({how}). The log above may say why.")
        self.exit_code = code if code > 0 else 1
        self.reported = code in self.SAYS_WHY
