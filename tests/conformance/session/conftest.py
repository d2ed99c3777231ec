"""Runs every test of this folder on each world of `SESSION_FACTORIES`."""

from collections.abc import Iterator

import pytest

from tests.brokers import unique
from tests.conformance.session.worlds import SESSION_FACTORIES, World


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise late, so that factories registered by other conftests count."""
    if "world" in metafunc.fixturenames:
        params = [pytest.param(factory, id=factory.name, marks=list(factory.marks)) for factory in SESSION_FACTORIES]
        metafunc.parametrize("world", params, indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One broker with one kind of session."""
    with request.param.enter(request) as entered:
        yield entered


@pytest.fixture
def owner() -> str:
    """A transactional id of this test's own."""
    return unique("owner")
