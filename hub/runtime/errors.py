"""What keeps a process of the hub from serving, each a sentence with its remedy."""

from pathlib import Path

from ..errors import ConfigurationError, HubError, InUse


class PortTaken(InUse):
    """Another process listens where the embedded broker should."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"The embedded broker cannot listen on {host}:{port} ({reason})."
            " Stop what listens there, or choose another port with --port (0 takes a free one)."
        )


class DataDirectoryTaken(InUse):
    """Another hub runs on the data directory."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The data directory {reason}. Stop that hub, or give this one a directory of its own with --data.")


class DataOfOtherFormat(ConfigurationError):
    """A data directory was written by a version whose format this one does not read. `found`: None where it has no number."""

    def __init__(self, directory: Path | None, found: str | None, wanted: int) -> None:
        was = "has no format number, since an earlier version wrote it" if found is None else f"is of format {found!r}"
        super().__init__(
            f"The data in {directory} {was}, and this version reads format {wanted} only:"
            " drain the hub with the version that wrote it, then start over with another --data."
        )


class ProcessFailed(HubError):
    """A service inside this process ended by itself, or a child process does not come up."""


class ChildFailed(HubError):
    """A child process ended before it served for the first time. One that ended with an exit code of
    `SAYS_WHY` has printed why."""

    SAYS_WHY = (2, 3, 4)

    def __init__(self, name: str, code: int, how: str) -> None:
        super().__init__(f"The {name} did not start ({how}). The log above may say why.")
        self.exit_code = code if code > 0 else 1
        self.reported = code in self.SAYS_WHY
