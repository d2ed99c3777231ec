"""The fork server, in a process of its own: it forks, and this one has threads."""

import subprocess
import sys

import pytest

SIGNALLED_EARLY = """
import asyncio, os, signal, time
from hub import fork_server

def leave_late(parent):
    deadline = time.monotonic() + 10
    while parent != owner and signal.SIGTERM not in signal.sigpending() and time.monotonic() < deadline:
        time.sleep(0.001)

async def main():
    process = await server.fork(b"")
    process.signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        print(await process.ended)

owner, fork_server.die_with_parent = os.getpid(), leave_late
server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
asyncio.run(main())
server.close()
"""
CLOSES = """
import os, signal
from hub import fork_server

server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
server.close()
os.write(2, b"closed")
"""
CLOSES_WITH_A_COPY = """
import os, signal
from hub import fork_server

server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
copy = os.fork() or (signal.alarm(60), signal.pause())
server.close()
os.write(2, b"closed")
os.kill(copy, signal.SIGKILL)
"""

STOPPED = """
import asyncio, os, signal
from hub import fork_server

async def main():
    process = await server.fork(b"")
    os.kill(server.pid, signal.SIGSTOP)
    process.signal(signal.SIGKILL)
    server.kill()
    try:
        await process.ended
    except fork_server.ForkServerEnded as error:
        print(error)

fork_server.END_SECONDS = 0.05
for work in (main, None):
    server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
    asyncio.run(work()) if work else os.kill(server.pid, signal.SIGSTOP)
    server.close()
    print("closed")
"""

STOPPED_BEFORE_A_FORK = """
import asyncio, os, signal
from hub import fork_server

async def main():
    os.kill(server.pid, signal.SIGSTOP)
    for _ in range(2):
        try:
            await server.fork(b"")
        except fork_server.ForkServerEnded as error:
            print(error)

fork_server.FORK_SECONDS = 0.05
server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
asyncio.run(main())
server.close()
"""

KILLED = """
import asyncio, os, psutil, signal
from hub import fork_server

async def main():
    process = await server.fork(b"")
    os.kill(server.pid, signal.SIGKILL)
    try:
        await process.ended
    except fork_server.ForkServerEnded as error:
        print(error)
    async with asyncio.timeout(30):
        while psutil.pid_exists(server.pid):
            await asyncio.sleep(0.002)

server = fork_server.ForkServer(lambda job, descriptors: signal.pause(), "a test")
asyncio.run(main())
server.kill()
server.close()
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_signal_that_arrives_before_a_process_has_left_the_server_is_not_lost() -> None:
    done = run(sys.executable, "-c", SIGNALLED_EARLY)
    assert (done.stdout, done.stderr) == ("-15\n", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_the_server_can_be_closed_where_stdin_or_stdout_was_never_open(closed: str) -> None:
    assert run("sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, CLOSES).stderr == "closed"


def test_the_server_can_be_closed_although_another_process_has_a_copy_of_its_socket() -> None:
    assert run(sys.executable, "-c", CLOSES_WITH_A_COPY).stderr == "closed"


def test_a_server_that_is_stopped_can_be_killed_and_closed() -> None:
    done = run(sys.executable, "-c", STOPPED)
    assert (done.stdout, done.stderr) == ("The fork server of a test ended.\nclosed\nclosed\n", "")


def test_a_server_that_is_stopped_is_killed_when_a_process_is_wanted() -> None:
    done = run(sys.executable, "-c", STOPPED_BEFORE_A_FORK)
    assert (done.stdout, done.stderr) == (2 * "The fork server of a test ended.\n", "")


def test_a_server_that_was_killed_leaves_no_zombie_while_its_owner_goes_on() -> None:
    done = run(sys.executable, "-c", KILLED)
    assert (done.stdout, done.stderr) == ("The fork server of a test ended.\n", "")
