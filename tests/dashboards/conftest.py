"""promtool, for the tests marked `prometheus`."""

from pathlib import Path

import pytest

from tests.brokers import missing

from .prometheus import PrometheusUnavailable, binary


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Skips (or fails, if HUB_REQUIRE names prometheus) where there is none."""
    try:
        return binary("promtool")
    except PrometheusUnavailable as reason:
        missing("prometheus", reason)
