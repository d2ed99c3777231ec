"""Prometheus and promtool for tests: those on the path, or those of Debian's package in a cache outside the checkout.

The package is downloaded with `apt-get download` and unpacked with `dpkg -x`: nothing is installed.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.apache_kafka import locked

PACKAGE = "prometheus"
DOWNLOAD_SECONDS = 300


class PrometheusUnavailable(Exception):
    """This machine has no Prometheus and cannot fetch it; the message says why."""


def cache_dir() -> Path:
    """Where the unpacked package is."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskhub" / "prometheus-debian"


def prometheus_origin() -> str | None:
    """Where Prometheus comes from on this machine, as a phrase; None if it cannot be had."""
    if shutil.which("promtool") and shutil.which("prometheus"):
        return "a Prometheus on the path"
    if _unpacked():
        return f"a Prometheus in {cache_dir()}"
    return "Debian's package of Prometheus" if shutil.which("apt-get") and shutil.which("dpkg") else None


def binary(name: str) -> Path:
    """The program `prometheus` or `promtool`. Raises PrometheusUnavailable."""
    if (found := shutil.which(name)) is not None:
        return Path(found)
    with locked(cache_dir().with_suffix(".lock")):
        if not _unpacked():
            _fetch()
    return cache_dir() / "usr" / "bin" / name


def _unpacked() -> bool:
    return (cache_dir() / "usr" / "bin" / "promtool").is_file()


def _fetch() -> None:
    """Unpack the package beside its place and move it there, so that an interrupted download is not found later."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise PrometheusUnavailable("no `promtool` on the path, and no apt-get and dpkg to fetch it")
    with tempfile.TemporaryDirectory(dir=cache_dir().parent) as folder:
        _run(["apt-get", "download", PACKAGE], folder)
        package = next(Path(folder).glob(f"{PACKAGE}_*.deb"))
        _run(["dpkg", "-x", str(package), "unpacked"], folder)
        (Path(folder) / "unpacked").rename(cache_dir())


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        raise PrometheusUnavailable(f"`{' '.join(command)}` took longer than {DOWNLOAD_SECONDS} s") from late
    if done.returncode != 0:
        raise PrometheusUnavailable(f"`{' '.join(command)}` failed: {(done.stdout + done.stderr).strip()[-300:]}")
