"""A small process that forks others on request, and the handle to it.

It is forked from the process of delivery before that has threads, an event loop or clients, and remains without them, so that
its copies begin with the imported modules and nothing else. Messages on the socket between the two, in network byte order:

    to the server    "f" number, size, two descriptors, then the job (bytes)      fork a process for this job
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
import sys
from collections.abc import Callable
from struct import Struct
from typing import NoReturn

from ...child_process import die_with_parent
from ...errors import HubError

Run = Callable[[bytes, int, int], int]
"""What a forked process does: arguments are the job, a file descriptor for its reports, and one of the memory that it shares with
the process of delivery; the result is its exit code."""

_MESSAGE = Struct("!cIi")
NOT_FORKED = -1
log = logging.getLogger(__name__)
_DESCRIPTORS_MAX = 4096
_PER_JOB = 2
NICE = 5
"""Processes of subscribers yield to the rest of the hub when the CPU is busy."""


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
    one event loop."""

    def __init__(self, run: Run) -> None:
        self._socket, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(theirs, run, parent)
        theirs.close()
        self._numbers = 0
        self._processes: dict[int, ForkedProcess] = {}
        self._received = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = self._is_closed = False

    async def fork(self, job: bytes, memory: int) -> ForkedProcess:
        """Fork a process for `job`, which gets a copy of the descriptor `memory`. Raises ForkServerEnded."""
        self._listen()
        self._numbers += 1
        number = self._numbers
        reading, writing = os.pipe()
        process = self._processes[number] = ForkedProcess(number, reading, self._send)
        try:
            socket.send_fds(self._socket, [_MESSAGE.pack(b"f", number, len(job))], [writing, memory])
            self._socket.sendall(job)
            await asyncio.shield(process.forked)
        except OSError as error:
            os.close(reading)
            self._end()
            raise ForkServerEnded("The fork server of delivery ended.") from error
        except BaseException:
            os.close(reading)
            process.signal(signal.SIGKILL)
            raise
        finally:
            os.close(writing)
        return process

    def close(self) -> None:
        """End the server. Processes that are still running are killed."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is not None and not self._is_over:
            self._loop.remove_reader(self._socket)
        self._is_over = True
        self._socket.close()
        os.waitpid(self.pid, 0)

    def _send(self, kind: bytes, number: int, value: int) -> None:
        try:
            self._socket.sendall(_MESSAGE.pack(kind, number, value))
        except OSError:
            self._end()

    def _listen(self) -> None:
        if self._is_over:
            raise ForkServerEnded("The fork server of delivery ended.")
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
        error = ForkServerEnded("The fork server of delivery ended.")
        for process in self._processes.values():
            for future in (process.forked, process.ended):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # it may be awaited by no caller
        self._processes.clear()


# In the server


def _serve(theirs: socket.socket, run: Run, parent: int) -> NoReturn:
    """Serve until the socket is closed. Does not return: its caller is the code of another process."""
    code = 1
    try:
        die_with_parent(parent)
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, _DESCRIPTORS_MAX)
        gc.freeze()  # the copies do not write to the pages of existing objects
        _Server(theirs, run).serve()
        code = 0
    except BaseException:
        log.exception("the fork server failed", extra={"action": "fork_server_failed"})
    finally:
        os._exit(code)


class _Server:
    """The loop of the server: messages on the socket, ends of processes."""

    def __init__(self, theirs: socket.socket, run: Run) -> None:
        self._socket, self._run = theirs, run
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._woken, self._waking = os.pipe()
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)

    def serve(self) -> None:
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)  # the process of delivery decides when to end
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            readable, _, _ = select.select([self._socket.fileno(), self._woken], [], [])
            if self._woken in readable:
                os.read(self._woken, 4096)
                self._reap()
            if self._socket.fileno() in readable and not self._take():
                for pid in self._numbers:
                    os.kill(pid, signal.SIGKILL)
                return

    def _take(self) -> bool:
        """Process one message. False if the other end is closed."""
        message, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE.size, _PER_JOB)
        message += self._rest(_MESSAGE.size - len(message)) if message else b""
        if len(message) < _MESSAGE.size:
            return False
        kind, number, value = _MESSAGE.unpack(message)
        if kind == b"f":
            self._fork(number, self._rest(value), descriptors)
        elif number in self._pids:
            os.kill(self._pids[number], value)
        return True

    def _rest(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size and (piece := self._socket.recv(size - len(pieces))):
            pieces += piece
        return bytes(pieces)

    def _fork(self, number: int, job: bytes, descriptors: list[int]) -> None:
        """Fork a process. Without resources for it (processes, descriptors) it has ended at once, with the process id 0."""
        server, pid = os.getpid(), NOT_FORKED
        try:
            pid = os.fork() if len(descriptors) == _PER_JOB else NOT_FORKED
        except OSError as error:
            log.error("could not fork", extra={"action": "fork_failed"}, exc_info=error)
        if pid == 0:
            self._become(job, descriptors, server)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid == NOT_FORKED:
            self._socket.sendall(_MESSAGE.pack(b"f", number, 0) + _MESSAGE.pack(b"e", number, 1))
            return
        self._numbers[pid], self._pids[number] = number, pid
        self._socket.sendall(_MESSAGE.pack(b"f", number, pid))

    def _become(self, job: bytes, descriptors: list[int], server: int) -> NoReturn:
        """Run the job in the new process."""
        code = 1
        try:
            die_with_parent(server)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for end in (self._woken, self._waking):
                os.close(end)
            self._socket.close()
            os.nice(NICE)
            code = self._run(job, *descriptors)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            log.exception("a process of a subscriber failed", extra={"action": "subscriber_process_failed"})
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._numbers.pop(pid)
            del self._pids[number]
            self._socket.sendall(_MESSAGE.pack(b"e", number, os.waitstatus_to_exitcode(status)))
