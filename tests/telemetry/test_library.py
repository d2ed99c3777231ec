"""What the hub's classes log in a program that uses them as a library: the program's configuration of `logging` decides."""

import logging
import subprocess
import sys

import pytest
import structlog

from hub.logs import Logger, message_of

PROGRAM = """if True:
    import asyncio, logging, sys
    from hub import TaskRegistry
    from hub.logs import Logger
    from hub.testing import HubInMemory

    tasks = TaskRegistry()

    @tasks.task("add")
    async def add(a, b):
        return a + b

    async def main():
        async with HubInMemory(tasks) as hub:
            print(await hub.run("add", {"a": 1, "b": 2}))
        Logger("hub.worker.inbox").warning("inbox interrupted", action="worker_inbox_retry", reason="100% gone")

"""


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    """A program that runs a task, after these lines."""
    program = PROGRAM + "".join(f"    {line}\n" for line in (*lines, "asyncio.run(main())"))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)


def test_without_a_configuration_warnings_go_to_stderr_and_nothing_else_is_printed() -> None:
    done = run()
    assert done.stdout == "3\n"
    assert done.stderr == "inbox interrupted action=worker_inbox_retry reason='100% gone'\n"


def test_the_configuration_of_the_program_decides() -> None:
    done = run("logging.basicConfig(level='INFO', format='%(levelname)s %(name)s %(filename)s %(action)s: %(message)s')")
    lines = done.stderr.splitlines()
    assert done.stdout == "3\n"
    started = [line for line in lines if line.startswith("INFO hub.worker.worker worker.py worker_started: worker started ")]
    assert len(started) == 1
    assert "tasks=\"['add']\"" in started[0]
    assert lines[-1].endswith("worker_inbox_retry: inbox interrupted action=worker_inbox_retry reason='100% gone'")
    assert run("logging.getLogger('hub').setLevel('ERROR')").stderr == ""


def test_structlog_stays_as_the_program_configured_it() -> None:
    done = run(
        "import structlog",
        "structlog.configure(processors=[structlog.processors.JSONRenderer()])",
        "before = dict(structlog.get_config())",
        "asyncio.run(main())",
        "assert structlog.get_config() == before",
        "structlog.get_logger().info('mine')",
    )
    assert done.stdout == '3\n{"event": "mine"}\n3\n'


def test_a_record_has_its_fields_as_attributes_and_names_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    log = Logger("hub.a")
    with caplog.at_level(logging.INFO):
        log.debug("not at this level", action="a")
        for write in (log.info, log.warning, log.error, log.exception):
            write("moved", action="a", count=2)
        log.log(logging.INFO, "moved", action="a", count=2)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR", "ERROR", "INFO"]
    for record in caplog.records:
        about = record.__dict__
        assert (about["event"], about["action"], about["fields"]) == ("moved", "a", {"action": "a", "count": 2})
        assert (record.name, record.filename) == ("hub.a", "test_library.py")
        assert record.getMessage() == "moved action=a count=2"


def test_an_exception_is_that_of_the_record_and_not_a_field(caplog: pytest.LogCaptureFixture) -> None:
    handled, given = ValueError("handled"), ValueError("given")
    try:
        raise handled
    except ValueError:
        Logger("hub.a").exception("failed", action="a")
        Logger("hub.a").error("failed", action="a", exc_info=given)
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [handled, given]
    assert [record.getMessage() for record in caplog.records] == ["failed action=a"] * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a-1", "a-1"),
        (2.5, "2.5"),
        (None, "None"),
        ("", "''"),
        ("a b", "'a b'"),
        ("a=b", "'a=b'"),
        ("a\nb", r"'a\nb'"),
        ("it's", '"it\'s"'),
    ],
)
def test_values_with_spaces_or_quotes_are_quoted(value: object, text: str) -> None:
    assert message_of("moved", {"by": value}) == f"moved by={text}"


def test_the_tests_capture_records_of_every_level() -> None:
    with structlog.testing.capture_logs() as lines:
        Logger("hub.a").debug("moved", action="a")
        Logger("hub.a").error("failed", action="b", exc_info=(error := ValueError("x")))
    assert lines == [
        {"event": "moved", "action": "a", "log_level": "debug"},
        {"event": "failed", "action": "b", "exc_info": error, "log_level": "error"},
    ]
