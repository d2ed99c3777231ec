"""The OpenTelemetry Collector of `builder.yaml`, built once with Go into a cache outside the checkout.

The build needs Go and a proxy for Go modules. It runs on one core at low priority, for minutes. Processes that need it
concurrently wait for each other with a lock file.
"""

import os
import shutil
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path

import yaml

from tests.apache_kafka import locked

MANIFEST = Path(__file__).parent / "builder.yaml"
BUILD_SECONDS = 1500
PROGRAM = "otelcol"


class CollectorUnavailable(Exception):
    """This machine has no collector and cannot build it; the message says why."""


def version() -> str:
    """The version in the manifest."""
    return str(yaml.safe_load(MANIFEST.read_text())["dist"]["version"])


def cached() -> Path:
    """Where the program of this manifest is, or will be."""
    digest = blake2b(MANIFEST.read_bytes(), digest_size=4).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskhub" / "collector"
    return folder / f"{version()}-{digest}" / PROGRAM


def collector_origin() -> str | None:
    """Where the collector comes from on this machine, as a phrase; None if it cannot be had."""
    if cached().is_file():
        return f"the collector in {cached().parent}"
    return "a collector that is built with Go" if shutil.which("go") else None


def collector_binary(*, build: bool) -> Path:
    """The program. `build`: build it if it is not in the cache. Raises CollectorUnavailable."""
    if not build and not cached().is_file():
        raise CollectorUnavailable(f"it is not in {cached().parent}; `python -m tests.collector.binary` builds it")
    with locked(cached().parents[1] / "build.lock"):
        if not cached().is_file():
            _build()
    return cached()


def _build() -> None:
    """Build in a folder beside the program's and move it there, so that an interrupted build is not found later."""
    if shutil.which("go") is None:
        raise CollectorUnavailable("no `go` on the path to build it")
    cached().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached().parents[1]) as folder:
        manifest = yaml.safe_load(MANIFEST.read_text())
        manifest["dist"]["output_path"] = f"{folder}/out"
        (Path(folder) / "builder.yaml").write_text(yaml.safe_dump(manifest))
        _run(["go", "run", f"go.opentelemetry.io/collector/cmd/builder@v{version()}", "--config", "builder.yaml"], folder)
        (Path(folder) / "out" / PROGRAM).rename(cached())


def _run(command: list[str], folder: str) -> None:
    slow = {"GOFLAGS": "-p=1", "GOMAXPROCS": "1", "CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            ["nice", "-n", "10", *command],
            cwd=folder,
            env={**os.environ, **slow},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CollectorUnavailable(f"its build took longer than {BUILD_SECONDS} s") from late
    if done.returncode != 0:
        raise CollectorUnavailable(f"its build failed: {(done.stdout + done.stderr).strip()[-400:]}")


if __name__ == "__main__":
    print(collector_binary(build=True))
