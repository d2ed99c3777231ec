"""The commands that the README promises to a fresh clone are there, and what CI runs is what people run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CI = ROOT / ".ci" / "run"


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_a_target_makes_its_environment_by_itself(target: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    planned = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True).stdout
    steps = [planned.index(step) for step in ("-m venv .venv", "install -e", ".venv/bin/")]
    assert steps[0] < steps[1], planned
    assert f"make {target}" in README


def test_ci_runs_the_checks_and_then_the_tests_with_kafka() -> None:
    lines = CI.read_text().splitlines()
    assert os.access(CI, os.X_OK)
    assert "set -euo pipefail" in lines
    order = [lines.index(line) for line in ("make lint", "export HUB_REQUIRE=kafka", "exec make test")]
    assert order == sorted(order)
    assert order[-1] == len(lines) - 1, "pytest's closing line is the end of the output"


def test_the_plain_commands_stand_beside() -> None:
    for line in ("python3 -m venv .venv", "pip install -e .", 'pip install -e ".[dev]"', "python -m pytest"):
        assert line in README


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
