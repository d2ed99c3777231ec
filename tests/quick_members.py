"""`python -m tests.quick_members MODULE [ARGUMENT ...]` is `python -m MODULE [ARGUMENT ...]`, except that a member of a consumer
group (an engine, a delivery process) is missed SESSION_MS after it was killed: its successor gets no partition before.

The hub's own value, three times as long, is in effect where tests run `python -m hub`: in `runtime`, `cli` and
`e2e/test_kills_of_brokers.py`.
"""

import runpy
import sys

from hub.kafka import clients

SESSION_MS = 2_000
HEARTBEAT_MS = 300

if __name__ == "__main__":
    clients.CONSUMER.update(session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
