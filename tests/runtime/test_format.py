"""Data of another format is rejected at the start with one sentence, and not changed.

`hub-data-without-format.tar.gz` is a data directory written by `hub up` of the last version without format numbers, after an
orderly shutdown: two ended tasks, one waiting task.
"""

import asyncio
import hashlib
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import json

from hub.broker import BrokerServer
from hub.broker.format import FORMAT as DIRECTORY_FORMAT
from hub.core.rows import FORMAT, META_KEY
from hub.kafka import EVENTS, INTAKE, STATE, Cluster, Record, build_batch, describe_partitions, ensure_hub, read_all
from tests.cli.running import hub_inside

from .conftest import DEADLINE_SECONDS, HubUps
from .test_what_goes_wrong import hub

WITHOUT_FORMAT = Path(__file__).parent / "hub-data-without-format.tar.gz"
OF_A_LATER_VERSION = 7_000


def unpack(folder: Path) -> Path:
    """The data directory of the version without format numbers, in `folder`."""
    with tarfile.open(WITHOUT_FORMAT) as archive:
        archive.extractall(folder, filter="data")
    return folder / "hub-data"


def contents(directory: Path) -> dict[str, str]:
    """A hash of every file but the lock, by its path."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def sentence_of(said: str) -> str:
    """The one sentence that a command ended with."""
    [line] = said.strip().splitlines()
    assert line.startswith("hub: ")
    assert line.endswith(".")
    assert line.count(". ") == 0
    return line


@pytest.mark.parametrize("command", [["broker"], ["broker", "--engine"]])
def test_a_data_directory_without_a_format_number_is_refused(tmp_path: Path, command: list[str]) -> None:
    data = unpack(tmp_path)
    before = contents(data)
    code, said = hub(tmp_path, *command, "--data", str(data), "--port", "0")
    assert code == 2
    assert sentence_of(said) == (
        f"hub: The data in {data} has no format number, since an earlier version wrote it, and this version reads format"
        f" {DIRECTORY_FORMAT} only: drain the hub with the version that wrote it, then start over with another --data."
    )
    assert contents(data) == before


def test_hub_up_is_refused_on_a_data_directory_without_a_format_number(tmp_path: Path, hub_up: HubUps) -> None:
    before = contents(unpack(tmp_path))
    up = hub_up("--no-subscribers", data="hub-data")
    assert up.process.wait(DEADLINE_SECONDS) == 2
    assert "hub: The data in hub-data has no format number" in up.errors()
    assert "Traceback" not in up.errors()
    assert contents(tmp_path / "hub-data") == before
    assert hub_up("--no-subscribers", data="another").ready().end() == 0


def test_a_data_directory_of_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format").write_text(f"{OF_A_LATER_VERSION}\n")
    code, said = hub(tmp_path, "broker", "--data", "data", "--port", "0")
    assert code == 2
    assert f"data is of format '{OF_A_LATER_VERSION}', and this version reads format {DIRECTORY_FORMAT} only" in sentence_of(said)
    assert contents(tmp_path / "data").keys() == {"format"}


def test_an_engine_is_refused_on_rows_without_a_format_number(tmp_path: Path) -> None:
    """As if the layout of the directory had not changed, but the rows on it: the broker serves, its engine does not."""
    data = unpack(tmp_path)
    (data / "format").write_text(f"{DIRECTORY_FORMAT}\n")
    code, said = hub(tmp_path, "broker", "--engine", "--data", str(data), "--port", "0", "--log-level", "error")
    assert code == 2
    assert sentence_of(said) == (
        "hub: The hub's data in hub.state-0 has no format number, since an earlier version wrote it, and this version reads"
        f" format {FORMAT} only: drain the hub with the version that wrote it, then start over with new topics."
    )


@pytest.fixture
async def broker() -> AsyncIterator[BrokerServer]:
    """A broker in memory, with the topics of a hub of two partitions."""
    server = BrokerServer(None)
    await server.start()
    await ensure_hub(Cluster.of(server.bootstrap), 2)
    yield server
    await server.stop()


async def put_meta(server: BrokerServer, **more: int) -> None:
    """A `!meta` row of partition 0, as an engine of some version writes it, and something before and after it."""
    meta = {"offset": 3, "epoch": 1, "now_us": 1_700_000_000_000_000, "partitions": 2, "created_us": 0, **more}
    rows = [(b"task/a", b"{}"), (META_KEY, json.encode(meta)), (b"task/a", None)]
    await server.local.append(STATE, 0, build_batch([Record(key, value, [], 0) for key, value in rows]))


async def ends(server: BrokerServer) -> dict[str, int]:
    """How many records each topic of the hub has."""
    return {
        topic: len([record async for record in read_all(Cluster.of(server.bootstrap), topic, 0)])
        for topic in (INTAKE, EVENTS, STATE)
    }


COMMANDS = [["init"], ["engine"], ["up", "--no-subscribers"]]


async def run_hub(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command while this process serves the broker."""
    if arguments[0] == "init":
        done = await asyncio.to_thread(hub_inside, *arguments, folder=folder)
        return done.returncode, done.stderr
    return await asyncio.to_thread(hub, folder, *arguments)


@pytest.mark.parametrize("command", COMMANDS)
async def test_topics_without_a_format_number_are_refused_before_anything_is_written(
    tmp_path: Path, broker: BrokerServer, command: list[str]
) -> None:
    await put_meta(broker)
    before = await ends(broker)
    code, said = await run_hub(tmp_path, *command, "--bootstrap", broker.bootstrap)
    assert code == 2
    assert f"The hub's data in hub.state-0 at {broker.bootstrap} has no format number" in sentence_of(said)
    assert await ends(broker) == before
    assert not broker.broker.groups.groups, "no engine has joined"


@pytest.mark.parametrize("command", [["init"], ["engine"]])
async def test_topics_of_a_later_format_are_refused(tmp_path: Path, broker: BrokerServer, command: list[str]) -> None:
    await put_meta(broker, format=OF_A_LATER_VERSION)
    code, said = await run_hub(tmp_path, *command, "--bootstrap", broker.bootstrap)
    assert code == 2
    assert f"is of format {OF_A_LATER_VERSION}, and this version reads format {FORMAT} only" in sentence_of(said)


async def test_the_number_is_found_before_a_long_tail_without_it(tmp_path: Path, broker: BrokerServer) -> None:
    await put_meta(broker, format=OF_A_LATER_VERSION)
    for _ in range(3):
        await broker.local.append(STATE, 0, build_batch([Record(b"task/b", b"{}", [], 0)] * 100))
    code, said = await run_hub(tmp_path, "init", "--bootstrap", broker.bootstrap)
    assert (code, f"is of format {OF_A_LATER_VERSION}" in said) == (2, True)


async def test_topics_of_this_format_and_new_topics_are_taken(tmp_path: Path, broker: BrokerServer) -> None:
    assert (await run_hub(tmp_path, "init", "--bootstrap", broker.bootstrap))[0] == 0
    await put_meta(broker, format=FORMAT)
    assert (await run_hub(tmp_path, "init", "--bootstrap", broker.bootstrap))[0] == 0
    assert await describe_partitions(Cluster.of(broker.bootstrap)) == 2


async def test_a_new_cluster_gets_its_topics_at_once(tmp_path: Path) -> None:
    server = BrokerServer(None)
    await server.start()
    try:
        code, said = await run_hub(tmp_path, "init", "--bootstrap", server.bootstrap)
        assert (code, said) == (0, "")
        assert server.local.topics()[STATE] > 1
    finally:
        await server.stop()
