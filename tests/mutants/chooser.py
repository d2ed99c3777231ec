"""A plugin of pytest that runs the tests that the file `--chosen` lists with their durations, in its order.

A test that takes much longer than it did has failed: a mutant may be an endless loop."""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chosen", type=Path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.chosen:
        return
    seconds: dict[str, float] = json.loads(config.option.chosen.read_text())
    collected = {item.nodeid: item for item in items}
    items[:] = [collected[test] for test in seconds if test in collected]
    for item in items:
        item.add_marker(pytest.mark.timeout(60 + 20 * seconds[item.nodeid]), append=False)
