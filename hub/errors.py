"""The tree of errors that people may see. Each message is a sentence: what is wrong and, where one is known, the remedy."""


class HubError(Exception):
    """Anything that goes wrong in a way that a user can act on. `exit_code` is what the command line ends with; `reported`: its
    message, or a better one, is on stderr already."""

    exit_code = 1
    reported = False


class ConfigurationError(HubError):
    """A setting, an argument or a file says something that cannot be; the message names it."""

    exit_code = 2


class Unreachable(HubError):
    """A broker (or another server) does not answer at the address that the message gives.

    `cause` is the same for everybody whom one failure hits, whatever the messages name."""

    exit_code = 3
    cause: str = ""


class InUse(HubError):
    """A port or a data directory belongs to another process."""

    exit_code = 4


def cause_of(error: BaseException) -> str:
    """The same for everybody whom this failure hits; the error itself where no cause is given."""
    return getattr(error, "cause", "") or repr(error)
