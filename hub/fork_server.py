"""A small process that forks others on request, and the handle to it.

It is forked from its owner before that has threads, an event loop or clients, and remains without them, so that its copies begin
with the imported modules and nothing else, and share the pages of these until one of them writes to a page. Messages on the
socket between the two, in network byte order:

    to the server    "f" number, size, descriptors, then the job (bytes)          fork a process for this job
                     "s" number, signal                                           send it a signal
    from the server  "f" number, process id                                       it was forked
                     "e" number, exit code (negative: the number of the signal)   it has ended

The server ends, and kills its processes, when the other end of the socket is closed.
"""

import asyncio
import gc
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from typing import NamedTuple, NoReturn

from .child_process import die_with_parent, flush_standard_streams, open_standard_streams, set_title
from .errors import HubError

Run = Callable[[bytes, Sequence[int]], NoReturn]
"""What a forked process does. Arguments: the job, and file descriptors, of which the first is for its reports. It does not
return; what it raises passes through the caller of `ForkServer`, so that a process can leave all that its owner was doing."""

_MESSAGE = Struct("!cIi")
_NOT_FORKED = -1
FORK_SECONDS = 30.0
"""How long a fork may take; then the server is killed, since it would not report the ends of its processes either."""
END_SECONDS = 2.0
"""How long the server may take to end; then it is killed."""
REAP_SECONDS = 0.05
"""Interval of checks whether a server that has closed its socket has ended."""
log = logging.getLogger(__name__)
_DESCRIPTORS_MAX = 4096
"""Descriptors up to this one are closed in the server."""
_PER_JOB_MAX = 8
"""Most descriptors of one job, that for its reports included."""
_BLOCKED = {signal.SIGTERM}
"""Blocked in the server, and not ignored: a process that gets it before it has left the server must not lose it."""


class ForkServerEnded(HubError):
    """The fork server ended, and all its processes with it."""


class ForkedProcess:
    """One forked process. `reports`: the file descriptor from which its reports are read; the owner closes it. `ended`: its exit
    code."""

    def __init__(self, number: int, reports: int, send: Callable[[bytes, int, int], None]) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.reports = reports
        self.forked: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._send = send

    @property
    def pid(self) -> int:
        """The process id; known after `ForkServer.fork`."""
        return self.forked.result()

    def signal(self, number: int) -> None:
        """Send a signal, if the process has not ended."""
        if not self.ended.done():
            self._send(b"s", self.number, number)


class ForkServer:
    """The handle to the server; create it in the main thread, before there are other threads or event loops. Then use it from
    one event loop. `run`: what a forked process does. `owner`: its name in messages and in the title of the server."""

    def __init__(self, run: Run, owner: str) -> None:
        self._ended_message = f"The fork server of {owner} ended."
        gc.freeze()  # neither this process nor the others write to the pages of existing objects to collect garbage
        open_standard_streams()
        self._socket, theirs = socket.socketpair()
        flush_standard_streams()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _serve(theirs, run, owner, parent)
        theirs.close()
        self._numbers = 0
        self._processes: dict[int, ForkedProcess] = {}
        self._received = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = self._is_closed = self._is_reaped = False

    async def fork(self, job: bytes, *descriptors: int) -> ForkedProcess:
        """Fork a process for `job`, which gets copies of these descriptors. Raises ForkServerEnded."""
        self._listen()
        self._numbers += 1
        number = self._numbers
        reading, writing = os.pipe()
        process = self._processes[number] = ForkedProcess(number, reading, self._send)
        try:
            socket.send_fds(self._socket, [_MESSAGE.pack(b"f", number, len(job))], [writing, *descriptors])
            self._socket.sendall(job)
            async with asyncio.timeout(FORK_SECONDS):
                await asyncio.shield(process.forked)
        except OSError as error:  # also TimeoutError
            os.close(reading)
            self.kill()
            self._end()
            raise ForkServerEnded(self._ended_message) from error
        except BaseException:
            os.close(reading)
            process.signal(signal.SIGKILL)
            raise
        finally:
            os.close(writing)
        return process

    def kill(self) -> None:
        """Kill the server, which may not respond: what waits for it fails. Linux then kills its processes."""
        if not self._is_reaped:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the server. Processes that are still running are killed."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is not None and not self._is_over:
            self._loop.remove_reader(self._socket)
        self._is_over = True
        with suppress(OSError):  # not closed only: a process that code of users forked may have a copy of the descriptor
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        deadline = time.monotonic() + END_SECONDS
        while not self._reap():
            if time.monotonic() > deadline:  # stopped, for example
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.002)

    def _reap(self) -> bool:
        """Whether the server has ended; the system then forgets its process."""
        if not self._is_reaped:
            try:
                self._is_reaped = os.waitpid(self.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # SIGCHLD is ignored, and nothing is left to wait for
                self._is_reaped = True
        return self._is_reaped

    def _reap_soon(self) -> None:
        """Reap the server, which has ended or is about to, unless this handle was closed meanwhile."""
        if self._loop is not None and not self._loop.is_closed() and not self._reap():
            self._loop.call_later(REAP_SECONDS, self._reap_soon)

    def _send(self, kind: bytes, number: int, value: int) -> None:
        try:
            self._socket.sendall(_MESSAGE.pack(kind, number, value))
        except OSError:
            self._end()

    def _listen(self) -> None:
        if self._is_over:
            raise ForkServerEnded(self._ended_message)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        try:
            piece = self._socket.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            return self._end()
        self._received += piece
        whole = len(self._received) // _MESSAGE.size * _MESSAGE.size
        for kind, number, value in _MESSAGE.iter_unpack(bytes(self._received[:whole])):
            process = self._processes[number]
            future = process.forked if kind == b"f" else self._processes.pop(number).ended
            if not future.done():
                future.set_result(value)
        del self._received[:whole]

    def _end(self) -> None:
        """The server is gone: fail everything that waits for it."""
        if self._is_over:
            return
        self._is_over = True
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        error = ForkServerEnded(self._ended_message)
        for process in self._processes.values():
            for future in (process.forked, process.ended):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # it may be awaited by no caller
        self._processes.clear()
        self._reap_soon()


# In the server


def _serve(theirs: socket.socket, run: Run, owner: str, parent: int) -> NoReturn:
    """Serve until the socket is closed. Does not return: its caller is the code of another process."""
    code, forked = 1, None
    try:
        die_with_parent(parent)
        set_title(("hub", "fork-server", "of", owner))
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, _DESCRIPTORS_MAX)
        forked = _Server(theirs).serve()
        code = 0
    except BaseException:
        log.exception("the fork server failed", extra={"action": "fork_server_failed"})
    finally:
        if forked is None:
            os._exit(code)
    run(*forked)


class _Forked(NamedTuple):
    """What a forked process begins with."""

    job: bytes
    descriptors: Sequence[int]


class _Server:
    """The loop of the server: messages on the socket, ends of processes."""

    def __init__(self, theirs: socket.socket) -> None:
        self._socket = theirs
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._woken, self._waking = os.pipe()
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)

    def serve(self) -> _Forked | None:
        """Returns None when the socket is closed, and in each process that it forks what this begins with."""
        for ignored in (signal.SIGINT, signal.SIGHUP):  # the owner decides when to end
            signal.signal(ignored, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for descriptor in (self._socket.fileno(), self._woken):
            poll.register(descriptor, select.POLLIN)
        while True:
            readable = {descriptor for descriptor, _ in poll.poll()}
            if self._woken in readable:
                os.read(self._woken, 4096)
                self._reap()
            if self._socket.fileno() not in readable:
                continue
            message, descriptors, flags, _ = socket.recv_fds(self._socket, _MESSAGE.size, _PER_JOB_MAX)
            message += self._rest(_MESSAGE.size - len(message)) if message else b""
            if len(message) < _MESSAGE.size:
                self._kill_all()
                return None
            kind, number, value = _MESSAGE.unpack(message)
            if kind == b"f":
                job = _Forked(self._rest(value), descriptors)
                if self._fork(number, job, is_complete=not flags & socket.MSG_CTRUNC):
                    return job
            elif number in self._pids:
                os.kill(self._pids[number], value)

    def _kill_all(self) -> None:
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)

    def _rest(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size and (piece := self._socket.recv(size - len(pieces))):
            pieces += piece
        return bytes(pieces)

    def _fork(self, number: int, job: _Forked, *, is_complete: bool) -> bool:
        """Fork a process; True in that process. Without resources for it (processes, descriptors) it has ended at once, with the
        process id 0."""
        server, pid = os.getpid(), _NOT_FORKED
        try:
            pid = os.fork() if is_complete else _NOT_FORKED
        except OSError as error:
            log.error("could not fork", extra={"action": "fork_failed"}, exc_info=error)
        if pid == 0:
            self._leave(server)
            return True
        for descriptor in job.descriptors:
            os.close(descriptor)
        if pid == _NOT_FORKED:
            self._socket.sendall(_MESSAGE.pack(b"f", number, 0) + _MESSAGE.pack(b"e", number, 1))
            return False
        self._numbers[pid], self._pids[number] = number, pid
        self._socket.sendall(_MESSAGE.pack(b"f", number, pid))
        return False

    def _leave(self, server: int) -> None:
        """In the new process: undo what belongs to the server."""
        die_with_parent(server)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        for end in (self._woken, self._waking):
            os.close(end)
        self._socket.close()

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._numbers.pop(pid)
            del self._pids[number]
            self._socket.sendall(_MESSAGE.pack(b"e", number, os.waitstatus_to_exitcode(status)))
