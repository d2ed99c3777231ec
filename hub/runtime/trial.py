"""Tests an import in a child process, so that it has no effect on this one."""

from collections.abc import Sequence
from functools import partial

from ..child_process import EndedEarly, answer_of_fork
from ..errors import ConfigurationError


def check_registries(references: Sequence[str]) -> None:
    """Import task registries ("module:attribute") as workers do, in a forked process whose output is discarded.

    Raises ConfigurationError with the first error. Call it before this process has threads."""
    for reference in dict.fromkeys(references):
        try:
            fault = answer_of_fork(partial(_fault_of, reference))
        except EndedEarly as ended:
            fault = f"The import of {reference} ended its process ({ended})."
        if fault:
            raise ConfigurationError(fault)


def _fault_of(reference: str) -> str:
    from ..worker import load_registry

    try:
        load_registry(reference)
    except ConfigurationError as error:
        return str(error)
    return ""
