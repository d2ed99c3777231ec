"""The tree of errors that people may see. Each message is a sentence: what is wrong and, where one is known, the remedy."""

import importlib
from pathlib import Path
from traceback import extract_tb

#: Files between a user's module and its importer in a traceback: those of the hub and of importlib.
_BETWEEN = (str(Path(__file__).parent), str(Path(importlib.__file__).parent))


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


def code_location(error: BaseException) -> str:
    """Where in a user's code `error` was raised, as " (app.py, line 3)": the last line below the current folder, else the last of
    all. Empty where there is none, and for a syntax error, whose text has its own."""
    if isinstance(error, SyntaxError):
        return ""
    folder = Path.cwd()
    frames = [(Path(frame.filename), frame.lineno) for frame in extract_tb(error.__traceback__)]
    foreign = [(path, line) for path, line in frames if path.is_absolute() and not str(path).startswith(_BETWEEN)]
    own = [(path.relative_to(folder), line) for path, line in foreign if path.is_relative_to(folder) and not _installed(path)]
    found = (own or foreign)[-1:]
    return "".join(f" ({path}, line {line})" for path, line in found)


def _installed(path: Path) -> bool:
    return "site-packages" in path.parts
