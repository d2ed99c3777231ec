"""The fork server, in a process of its own: it forks, and this one has threads."""

import subprocess
import sys

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


def test_a_signal_that_arrives_before_a_process_has_left_the_server_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED_EARLY], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("-15\n", "")
