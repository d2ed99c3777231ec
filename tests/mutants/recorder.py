"""A plugin of pytest that writes, for each test file whose tests pass, a recording to the folder `--recordings`."""

import sys
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

from .recordings import SHARED, Recording, store
from .rooms import ROOMS, files_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recordings", type=Path)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.recordings:
        config.pluginmanager.register(_Recorder(config.rootpath, config.option.recordings))


class _Recorder:
    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.files = [file for room in ROOMS for file in files_of(root, room)]
        self.test = SHARED
        self.seconds: dict[str, float] = {}
        self.spawning: set[str] = set()
        self.failed: set[str] = set()
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[str(file) for file in self.files])
        self.coverage.start()
        sys.addaudithook(self.note_process)

    def note_process(self, event: str, details: tuple[object, ...]) -> None:
        """A program of this environment may execute any line."""
        if event == "os.fork" or (event == "subprocess.Popen" and Path(str(details[0])).parent == Path(sys.executable).parent):
            self.spawning.add(self.test)

    def switch(self, test: str) -> None:
        self.test = test
        self.coverage.switch_context(test)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        began = time.monotonic()
        self.switch(item.nodeid)
        try:
            return (yield)
        finally:
            self.switch(SHARED)
            self.seconds[item.nodeid] = time.monotonic() - began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        test = self.test
        if fixturedef.scope != "function":
            self.switch(SHARED)
        try:
            return (yield)
        finally:
            if test != self.test:
                self.switch(test)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(_file_of(report.nodeid))

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        executed = self.executed()
        for test_file in {_file_of(test) for test in self.seconds} - self.failed:
            tests = {test: seconds for test, seconds in self.seconds.items() if _file_of(test) == test_file}
            lines = {test: executed[test] for test in (SHARED, *tests) if test in executed}
            store(self.folder, test_file, Recording("", tests, sorted(self.spawning & tests.keys()), lines))

    def executed(self) -> dict[str, dict[str, list[int]]]:
        """The executed lines, by test and file."""
        by_test: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        data = self.coverage.get_data()
        for file in self.files:
            for line, tests in data.contexts_by_lineno(str(file)).items():
                for test in tests:
                    by_test[test][str(file.relative_to(self.root))].append(line)
        return by_test


def _file_of(test: str) -> str:
    return test.partition("::")[0]
