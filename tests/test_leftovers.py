"""A failed test may leave resources open; other tests must not fail because of that."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = """
import asyncio, gc, socket
from aiokafka import AIOKafkaProducer

class InACircle:
    def __init__(self):
        self.socket, self.itself = socket.socket(), self

async def test_one_that_fails_in_the_middle():
    left = InACircle()
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    assert left is None

def test_one_that_is_good():
    gc.collect()
"""


def test_what_a_failed_test_left_open_is_not_the_failure_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TESTS)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.conftest", str(tmp_path)],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "test_one_that_fails_in_the_middle - assert" in done.stdout
