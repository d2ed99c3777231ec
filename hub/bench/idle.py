"""What processes use while nothing happens: wake-ups, CPU time, memory, threads, connections. Linux only, from /proc and
from the CPU clocks of processes.

A wake-up is a voluntary context switch of a thread: it had gone to sleep, and a timer, a socket or another thread woke it
(`voluntary_ctxt_switches` in /proc/<pid>/task/<tid>/status, see proc(5)).
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil
from msgspec import Struct

from ..errors import HubError

WINDOW_SECONDS = 1.0
CALM_SECONDS = 30.0
"""How long `until_calm` waits."""
CALM_CHANGE = 0.2
CALM_WAKEUPS = 5.0
"""Processes are calm if their wake-ups in two consecutive windows differ by at most this share, or by this number per second."""
_FIELD = "\nvoluntary_ctxt_switches:"
_SCHEDULED = 2
"""The kind of clock in the clock id of a process that counts its time on a CPU (CPUCLOCK_SCHED in Linux's posix-timers.h)."""


class ProcessUse(Struct, frozen=True, kw_only=True):
    """The use of a process and of those that it has started, of which there are `processes` together.

    `wakeups_per_second` of all threads. `cpu_percent`: of one core. `pss_mib`: own pages and a share of those shared with other
    processes; `uss_mib`: own pages only. `connections`: open TCP connections."""

    wakeups_per_second: float
    cpu_percent: float
    pss_mib: float
    uss_mib: float
    processes: int
    threads: int
    connections: int


class _Counts(NamedTuple):
    """Counters of processes: wake-ups by thread, CPU seconds by process id."""

    wakeups: Mapping[tuple[int, int], int]
    cpu_seconds: Mapping[int, float]


async def measure_idle(groups: Mapping[str, list[int]], seconds: float) -> dict[str, ProcessUse]:
    """The use of groups of processes, by name, over `seconds`. Memory, threads and connections are those at the end.

    Raises HubError if a process ends meanwhile, or the system has no /proc."""
    before, began = {name: _count(pids) for name, pids in groups.items()}, time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    return {name: _use(pids, before[name], _count(pids), elapsed) for name, pids in groups.items()}


async def until_calm(pids: list[int]) -> float:
    """Wait until the number of wake-ups per second of these processes no longer falls. Returns the seconds that this took.

    Raises HubError after CALM_SECONDS."""
    began, before, last = time.perf_counter(), _count(pids), -1.0
    while (elapsed := time.perf_counter() - began) < CALM_SECONDS:
        await asyncio.sleep(WINDOW_SECONDS)
        now = _count(pids)
        rate = _grown(before.wakeups, now.wakeups) / WINDOW_SECONDS
        if last >= 0 and abs(rate - last) <= max(CALM_WAKEUPS, CALM_CHANGE * last):
            return time.perf_counter() - began
        before, last = now, rate
    raise HubError(f"The hub is not calm after {elapsed:.0f} s: {last:.0f} wake-ups per second.")


def total(uses: Mapping[str, ProcessUse]) -> ProcessUse:
    """The sum of all processes."""
    return ProcessUse(
        **{name: round(sum(getattr(use, name) for use in uses.values()), 2) for name in ProcessUse.__struct_fields__}
    )


def families(processes: Mapping[str, int]) -> dict[str, list[int]]:
    """The ids of these processes by name, each with those of the processes that it has started. A process that another one of
    them has started is not counted with that one. Raises HubError if one has ended."""
    found = {name: family(pid) for name, pid in processes.items()}
    counted: set[int] = set()
    for name in sorted(found, key=lambda name: len(found[name])):
        found[name] = [pid for pid in found[name] if pid not in counted]
        counted.update(found[name])
    return found


def family(pid: int) -> list[int]:
    """The id of a process and those of the processes that it has started, in this order. Raises HubError if it has ended."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        raise _ended(pid) from None


def _ended(pid: int) -> HubError:
    return HubError(f"The process {pid} of the hub has ended.")


def _count(pids: list[int]) -> _Counts:
    wakeups: dict[tuple[int, int], int] = {}
    cpu: dict[int, float] = {}
    for pid in pids:
        wakeups |= {(pid, thread): count for thread, count in _wakeups(pid).items()}
        cpu[pid] = cpu_seconds(pid)
    return _Counts(wakeups, cpu)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process since its start, ended threads included. On Linux to the nanosecond: /proc counts in
    ticks of 10 ms, more than a process uses in a second while nothing happens. Raises HubError if it has ended."""
    if sys.platform == "linux":
        with suppress(OSError):  # it has ended, or the system does not have this clock
            return time.clock_gettime(~pid << 3 | _SCHEDULED)
    times = _ask(pid).cpu_times()
    return float(times.user + times.system)


def _ask(pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise _ended(pid) from None


def _wakeups(pid: int) -> dict[int, int]:
    """Voluntary context switches by thread id."""
    if not os.path.isdir("/proc/self/task"):
        raise HubError("Wake-ups are counted from /proc/<pid>/task, which this system does not have.")
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        raise _ended(pid) from None
    found = {}
    for thread in threads:
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{thread}/status") as file:
            found[int(thread)] = int(file.read().partition(_FIELD)[2].split()[0])
    return found


def _grown(before: Mapping[tuple[int, int], int], after: Mapping[tuple[int, int], int]) -> int:
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def _use(pids: list[int], before: _Counts, after: _Counts, seconds: float) -> ProcessUse:
    memory = [_ask(pid).memory_full_info() for pid in pids]
    cpu = sum(after.cpu_seconds[pid] - before.cpu_seconds[pid] for pid in pids)
    return ProcessUse(
        wakeups_per_second=round(_grown(before.wakeups, after.wakeups) / seconds, 2),
        cpu_percent=round(cpu / seconds * 100, 2),
        pss_mib=round(sum(one.pss for one in memory) / 2**20, 2),
        uss_mib=round(sum(one.uss for one in memory) / 2**20, 2),
        processes=len(pids),
        threads=sum(_ask(pid).num_threads() for pid in pids),
        connections=sum(_connections(pid) for pid in pids),
    )


def _connections(pid: int) -> int:
    process = _ask(pid)
    ask = process.net_connections if hasattr(process, "net_connections") else process.connections  # renamed in psutil 6
    return sum(one.status == psutil.CONN_ESTABLISHED for one in ask("tcp"))
