"""`python -m tests.delivery.quick_restarts MODULE [ARGUMENT ...]` is `python -m MODULE [ARGUMENT ...]`, except that a subscriber
is started again after BACKOFF_SECONDS, and that its consumer group notices after SESSION_MS that it ended."""

import runpy
import sys

from hub.delivery import restarting
from hub.kafka import clients

BACKOFF_SECONDS = 0.1
SESSION_MS = 700
HEARTBEAT_MS = 200

if __name__ == "__main__":
    restarting.BACKOFF_INITIAL_SECONDS = restarting.BACKOFF_MAX_SECONDS = BACKOFF_SECONDS
    clients.CONSUMER.update(session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
