"""An embedded broker process that tests can kill: `python -m tests.delivery.broker_process <data dir> <port>`; prints its
port."""

import asyncio
import sys
from pathlib import Path

from hub.broker import BrokerServer


async def main(data_dir: str, port: str) -> None:
    """Serve until killed."""
    server = BrokerServer(Path(data_dir), "127.0.0.1", int(port))
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
