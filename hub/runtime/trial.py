"""Tests an import in a child process, so that it has no effect on this one."""

import os
from collections.abc import Sequence

from ..errors import ConfigurationError
from .child import describe_exit


def check_registries(references: Sequence[str]) -> None:
    """Import task registries ("module:attribute") as workers do, in a forked process whose output is discarded.

    Raises ConfigurationError with the first error. Call it before this process has threads."""
    for reference in dict.fromkeys(references):
        if (fault := _fault_of(reference)) is not None:
            raise ConfigurationError(fault)


def _fault_of(reference: str) -> str | None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _try(reference, writing)
    os.close(writing)
    with open(reading, errors="replace") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said or code == 0:
        return said or None
    return f"The import of {reference} ended its process ({describe_exit(code)})."


def _try(reference: str, answer: int) -> None:
    """In the child: write the error to the descriptor `answer`, and exit."""
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        from ..worker import load_registry

        try:
            load_registry(reference)
        except ConfigurationError as error:
            os.write(answer, str(error).encode())
        code = 0
    finally:
        os._exit(code)
