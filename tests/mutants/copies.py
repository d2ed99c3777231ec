"""A copy of the project, in which tests run: to record what they execute, and with a mutant."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from .sites import Mutant

ROOT = Path(__file__).parents[2]
COPIED = (
    "hub",
    "schemas",
    "subscribers",
    "tests",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "docker-compose.yml",
)

#: Time limit of a run without a mutant (seconds).
RECORDING_SECONDS = 3600
ENDING_SECONDS = 60


class Copy:
    """A copy of the project in which one module is changed at a time."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taskhub-mutants-"))
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, self.folder / name)

    def record(self, test_files: Iterable[str]) -> Path:
        """Run these test files; the folder with the recordings of those whose tests pass."""
        folder = self.folder / "recordings"
        self._run(["-p", "tests.mutants.recorder", "--recordings", str(folder), *test_files], RECORDING_SECONDS, None)
        return folder

    def killer_of(self, file: str, mutant: Mutant, tests: dict[str, float]) -> str | None:
        """Which of these tests, given with their durations in seconds, fails with the mutant, and how; None if all pass."""
        chosen, output, module = self.folder / "chosen.json", self.folder / "output.txt", self.folder / file
        chosen.write_text(json.dumps(tests))
        original = module.read_text()
        module.write_text(mutant.source)
        test_files = dict.fromkeys(test.partition("::")[0] for test in tests)
        arguments = ["-x", "-p", "tests.mutants.chooser", "--chosen", str(chosen), *test_files]
        try:
            with output.open("w") as written:
                if self._run(arguments, 120 + 20 * sum(tests.values()), written):
                    return None
            failures = (line for line in output.read_text(errors="replace").splitlines() if line.startswith(("FAILED", "ERROR")))
            return next(failures, "the time limit")
        finally:
            module.write_text(original)

    def _run(self, arguments: list[str], seconds: float, output: IO[str] | None) -> bool:
        """Whether pytest succeeds within a time limit. Processes that its tests left are killed."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        running = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return running.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)  # fixtures end what they started
            with suppress(subprocess.TimeoutExpired):
                running.wait(ENDING_SECONDS)
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
