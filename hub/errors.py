"""The classes of errors that are shown to users. Each message is a sentence: what is wrong and, if known, the remedy."""

import importlib
from pathlib import Path
from traceback import extract_tb

#: Folders whose files are ignored in a traceback: those of the hub and of importlib, which import a user's module.
_BETWEEN = (str(Path(__file__).parent), str(Path(importlib.__file__).parent))


class HubError(Exception):
    """The base class of errors that a user can act on. `exit_code`: the exit code of the command; `reported`: a message was
    already printed to stderr."""

    exit_code = 1
    reported = False


class ConfigurationError(HubError):
    """A setting, an argument or a file is invalid; the message names it."""

    exit_code = 2


class Unreachable(HubError):
    """A broker (or another server) does not respond at the address in the message.

    `cause` identifies the failure: it is the same in all errors with this cause, even if their messages differ."""

    exit_code = 3
    cause: str = ""


class InUse(HubError):
    """A port or a data directory is in use by another process."""

    exit_code = 4


def cause_of(error: BaseException) -> str:
    """The `cause` of an error; its repr if it has none."""
    return getattr(error, "cause", "") or repr(error)


def code_location(error: BaseException) -> str:
    """The location in a user's code where `error` was raised, as " (app.py, line 3)": the last frame in the current folder, else
    the last one. Empty if there is none, and for a syntax error, whose message has the location."""
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
