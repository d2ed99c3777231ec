"""The processes of `hub up` run their commands in `main`, as if each had just been started.

They call the function of the command with its values: a command line that is parsed in each process would cost each of them
25 ms and 7 MiB.
"""

from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, NoReturn

from ..config import is_configured
from .defaults import configured_options

if TYPE_CHECKING:
    from ..runtime import CommandLine


class ForkedCommand(BaseException):
    """Raised in a process forked for a role: it leaves what the supervisor was doing, and `main` calls `run` instead."""

    def __init__(self, command: "CommandLine", module: str) -> None:
        super().__init__(command.name)
        self._command, self._module = command, module

    def run(self) -> None:
        """Run the command; options that it does not have are those of the settings, as on a command line."""
        name, operands, options = self._command
        function = getattr(import_module(self._module, __package__), name)
        configured = {}
        if is_configured():
            from ..settings import Settings

            configured = configured_options(name, signature(function).parameters, Settings.load())
        function(*operands, **{**configured, **options})


def run_forked(job: bytes, descriptors: Sequence[int]) -> NoReturn:
    """What a forked process does with its job. Raises ForkedCommand."""
    from ..runtime.launching import become_role
    from . import OTHER_MODULES

    command = become_role(job, descriptors)
    raise ForkedCommand(command, f".{OTHER_MODULES.get(command.name, command.name)}")
