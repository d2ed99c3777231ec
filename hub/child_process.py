"""What forked processes need: their end with their parent, title, standard streams, exit codes, a check that runs in one."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from select import select

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_NAME_BYTES_MAX = 15
_STDOUT, _STDERR = 1, 2
_ARG_START, _ARG_END = 45, 46
"""Positions in /proc/self/stat, counted from the field after the name of the program; see proc_pid_stat(5)."""


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when the process `parent` ends (Linux only; no effect elsewhere).

    The process then ends as in a crash, from which the hub recovers."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def set_title(arguments: Sequence[str]) -> None:
    """Show `arguments` as the command line of this process, as far as there is room in the present one, and the first two as its
    name (Linux only; no effect elsewhere). The kernel reads command lines from the memory of processes, see
    proc_pid_cmdline(5)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_NAME, " ".join(arguments[:2]).encode()[:_NAME_BYTES_MAX], 0, 0, 0)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if start:  # 0 where the system hides it
        line = "\0".join(arguments).encode()[: end - start - 1]
        ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def open_standard_streams() -> None:
    """Open /dev/null in place of a stdin, stdout or stderr that was closed when the process started: otherwise a pipe or socket
    gets its descriptor, and the interpreter has None in place of the stream."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(nowhere, True)
    os.close(nowhere)
    sys.stdout = sys.stdout or open(_STDOUT, "w", closefd=False)  # noqa: SIM115 - for the rest of the process
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115


def notice_ends_of_children() -> None:
    """Stop ignoring SIGCHLD, which a process inherits: the system would not tell how its children end."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def flush_standard_streams() -> None:
    """Write what stdout and stderr buffer: a forked process would write it again. A closed pipe is not an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def describe_exit(code: int) -> str:
    """Describe an exit code (negative: the number of the signal)."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class EndedEarly(Exception):
    """The process of a check ended before it had an answer; the message says how."""


def answer_of_fork(check: Callable[[], str], timeout_seconds: float | None = None) -> str | None:
    """The result of `check`, called in a forked process whose output is discarded, so that it has no effect on this one.

    None if there is none within `timeout_seconds`: the process is then killed. Raises EndedEarly. Call it before this process
    has threads."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(check, writing)
    os.close(writing)
    try:
        said = _read_all(reading, timeout_seconds)
    finally:
        os.close(reading)
        if timeout_seconds is not None:
            os.kill(child, signal.SIGKILL)  # it has answered or is late; not reaped yet, so the id is its own
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said is None or said.endswith(b"\n"):
        return None if said is None else said[:-1].decode(errors="replace")
    raise EndedEarly(describe_exit(code))


def _read_all(reading: int, timeout_seconds: float | None) -> bytes | None:
    """Everything up to the end of the pipe or its first line feed; None if that takes longer than `timeout_seconds`."""
    said, deadline = b"", None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while not said.endswith(b"\n"):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select([reading], [], [], left)[0]:
            return None
        piece = os.read(reading, 65536)
        if not piece:
            break
        said += piece
    return said


def _answer(check: Callable[[], str], answer: int) -> None:
    """In the child: write the result and a line feed to the descriptor `answer`, and exit."""
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        said = check().replace("\n", " ").encode(errors="backslashreplace") + b"\n"
        while said:
            said = said[os.write(answer, said) :]
        code = 0
    finally:
        os._exit(code)
