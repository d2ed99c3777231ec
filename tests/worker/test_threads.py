"""The threads of a worker share attributes in one place only: protected by a lock, or through calls on an event loop."""

import ast
import importlib
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import Any

import pytest
from msgspec import Struct

import hub.worker
from hub import TaskContext, TaskRegistry
from hub.worker import shared, threads
from hub.worker.heartbeats import BLOCKED_SECONDS
from tests.brokers import broker_and_loop
from tests.components.running import running, until

ROOM = Path(hub.worker.__file__).parent
#: The modules that may start a thread, or hand something from one to another.
CROSSING = {"shared.py", "threads.py"}
PRIMITIVES = {
    "threading",
    "call_soon_threadsafe",
    "run_coroutine_threadsafe",
    "to_thread",
    "run_in_executor",
    "ThreadPoolExecutor",
}

tasks = TaskRegistry()
let_go = threading.Event()


@tasks.task("works")
def works(ctx: TaskContext) -> str:
    for percent in range(0, 100, 10):
        ctx.progress(percent, "working")
        assert not ctx.cancelled
        assert ctx.dependencies == {}
    return ctx.task_id


@tasks.task("hangs", timeout_seconds=0.1, retry={"max_attempts": 1})
def hangs(ctx: TaskContext) -> None:
    while not ctx.cancelled:
        let_go.wait(0.01)
    let_go.wait(60)


@tasks.task("blocks")
async def blocks(ctx: TaskContext) -> None:
    ctx.progress(1)
    time.sleep(4 * BLOCKED_SECONDS)  # noqa: ASYNC251  # the heartbeat thread then reports what the loop does not


def test_threads_and_what_crosses_them_have_one_place() -> None:
    found = {}
    for path in sorted(ROOM.glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
        if used := names & PRIMITIVES:
            found[path.name] = used
    assert set(found) == CROSSING, found


class Accesses:
    """Every attribute of the room's objects that is read, or written again, and by which thread. What is done under a lock is not
    looked at."""

    def __init__(self) -> None:
        self.by: dict[tuple[type, int, str], set[str]] = defaultdict(set)
        self.rewritten: set[tuple[type, int, str]] = set()
        self.values: dict[tuple[type, int, str], Any] = {}
        self.kept: list[Any] = []  # or the id of one that is gone would be the id of another
        self.under_lock = threading.local()

    def read(self, one: Any, name: str, value: Any) -> None:
        if not name.startswith("__") and not getattr(self.under_lock, "depth", 0):
            place = (type(one), id(one), name)
            self.kept.append(one)
            self.by[place].add(threading.current_thread().name)
            self.values[place] = value

    def wrote(self, one: Any, name: str) -> None:
        place = (type(one), id(one), name)
        if place in self.values:
            self.rewritten.add(place)
            self.read(one, name, None)
        self.values.setdefault(place, None)
        self.kept.append(one)

    def shared(self) -> set[str]:
        """The attributes that several threads used, and that are neither constant nor made for that."""
        return {
            f"{kind.__name__}.{name}"
            for (kind, identity, name), used_by in self.by.items()
            if len(used_by) > 1
            and ((kind, identity, name) in self.rewritten or not is_constant(self.values[kind, identity, name]))
        }


def is_constant(value: Any) -> bool:
    """Whether it cannot change, or is looked at by itself: our own objects, and those that are made to be shared."""
    own = type(value).__module__.startswith("hub.worker")
    return (
        own or callable(value) or isinstance(value, str | bytes | int | float | None | tuple | range | Struct | MappingProxyType)
    )


def classes_of(module: ModuleType) -> list[type]:
    return [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]


@pytest.fixture
def accesses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accesses]:
    seen = Accesses()
    modules = [importlib.import_module(f"hub.worker.{path.stem}") for path in ROOM.glob("*.py") if path.name not in CROSSING]
    watched = [
        kind
        for module in modules
        for kind in classes_of(module)
        if not issubclass(kind, Struct | tuple | BaseException) and not getattr(kind, "_is_protocol", False)
    ]
    assert len(watched) > 15, "the search has lost its object"

    def getter(one: Any, name: str) -> Any:
        value = object.__getattribute__(one, name)
        seen.read(one, name, value)
        return value

    def setter(one: Any, name: str, value: Any) -> None:
        seen.wrote(one, name)
        object.__setattr__(one, name, value)

    for kind in watched:
        monkeypatch.setattr(kind, "__getattribute__", getter, raising=False)
        monkeypatch.setattr(kind, "__setattr__", setter, raising=False)
    enter, leave = shared.Locked.__enter__, shared.Locked.__exit__

    def locked(one: shared.Locked[Any]) -> Any:
        value = enter(one)
        seen.under_lock.depth = 1
        return value

    def unlocked(
        one: shared.Locked[Any], kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seen.under_lock.depth = 0
        leave(one, kind, error, trace)

    monkeypatch.setattr(shared.Locked, "__enter__", locked)
    monkeypatch.setattr(shared.Locked, "__exit__", unlocked)
    let_go.clear()
    yield seen
    let_go.set()


async def test_no_attribute_is_used_by_two_threads_unless_under_the_lock(accesses: Accesses) -> None:
    with broker_and_loop() as (server, _):
        async with running(server.bootstrap, tasks, slots=4, lease_seconds=1.5) as world:
            handles = await world.hub.submit_many([{"name": "works"}] * 30 + [{"name": "blocks"}] * 2)
            hung = await world.hub.submit("hangs")
            assert {(await handle.outcome(timeout_seconds=60)).state for handle in handles} == {"completed"}
            assert (await hung.outcome(timeout_seconds=60)).state == "failed"
            let_go.set()
            await until(lambda: world.workers[0].stats()["running"] == 0)
    used_by = {name for place in accesses.by.values() for name in place}
    assert {"heartbeats", "task_0", threading.current_thread().name} <= used_by, "all kinds of threads were seen"
    assert accesses.shared() == set()


async def test_the_search_for_shared_attributes_finds_one(accesses: Accesses) -> None:
    attempts = importlib.import_module("hub.worker.attempts")
    from .desks import command

    attempt = attempts.Attempt(command(), 0.0)
    attempt.over = True
    other = threading.Thread(target=lambda: attempt.over, name="other")
    other.start()
    other.join()
    assert accesses.shared() == {"Attempt.over"}


# The threads themselves


async def test_a_loop_thread_says_when_it_is_ready_and_how_it_ended() -> None:
    import asyncio

    over: list[BaseException | None] = []
    stop = asyncio.Event()

    async def main(ready: Any) -> None:
        ready()
        await stop.wait()
        raise ValueError("at the end")

    thread = threads.LoopThread(main, over.append, name="t")
    assert await thread.join(0), "it was never started"
    await thread.start()
    assert not await thread.join(0)
    thread.call(stop.set)
    assert await thread.join(60)
    assert [str(error) for error in over] == ["at the end"]
    thread.call(stop.set)  # its loop is closed: dropped


async def test_a_loop_thread_whose_work_is_over_says_so_without_an_error() -> None:
    over: list[BaseException | None] = []

    async def main(ready: Any) -> None:
        ready()

    thread = threads.LoopThread(main, over.append, name="t")
    await thread.start()
    assert await thread.join(60)
    assert over == [None]


async def test_a_loop_thread_that_ends_before_it_is_ready_is_an_error_of_its_start() -> None:
    async def main(ready: Any) -> None: ...

    thread = threads.LoopThread(main, lambda error: None, name="t")
    with pytest.raises(RuntimeError, match="before it was ready"):
        await thread.start()


async def test_a_loop_thread_that_fails_before_it_is_ready_says_why_to_its_starter_only() -> None:
    over: list[BaseException | None] = []

    async def main(ready: Any) -> None:
        raise ValueError("not today")

    thread = threads.LoopThread(main, over.append, name="t")
    with pytest.raises(ValueError, match="not today"):
        await thread.start()
    thread.call(over.append, None)
    assert over == []
    assert await thread.join(60)
