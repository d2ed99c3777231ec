"""Clusters of scripted brokers."""

from collections.abc import AsyncIterator

import pytest

from .scripted import ScriptedCluster, scripted


@pytest.fixture
async def one() -> AsyncIterator[ScriptedCluster]:
    """One broker with three partitions."""
    async with scripted(partitions=3) as cluster:
        yield cluster


@pytest.fixture
async def two() -> AsyncIterator[ScriptedCluster]:
    """Two brokers with three partitions."""
    async with scripted(brokers=2, partitions=3) as cluster:
        yield cluster
