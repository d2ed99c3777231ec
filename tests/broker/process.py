"""A broker in a separate process that tests can kill."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_SECONDS = 120


@asynccontextmanager
async def broker_process(program: str, directory: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process and the broker's address. `program` is Python; it gets the data directory as its argument and prints the port
    once the broker listens. Killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(directory), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            port = int(await process.stdout.readline())
        yield process, f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
