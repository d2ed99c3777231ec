"""The commands in the README work in a fresh clone, and CI runs the same commands."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
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


def test_ci_runs_the_demo_and_the_wheel_alone_then_the_checks_then_the_tests_with_kafka() -> None:
    """What is missing in the dependencies is seen only before anything of [dev] is there."""
    commands = [line.partition(" #")[0] for line in CI.read_text().splitlines() if not line.startswith("#")]
    assert os.access(CI, os.X_OK)
    assert os.access(CI.with_name("wheel"), os.X_OK)
    assert "set -euo pipefail" in commands
    assert commands[-6:] == ["make clean", "make demo", ".ci/wheel", "make lint", "export HUB_REQUIRE=kafka", "exec make test"]


def test_lint_compares_imports_with_dependencies() -> None:
    assert (ROOT / "Makefile").read_text().count("$(VENV)/bin/deptry ") == 2


def test_what_is_declared_and_imported_by_nobody_is_listed(tmp_path: Path) -> None:
    """Exactly that: an entry of the list that is imported by now, or no longer declared, has to leave it."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["deptry"]["per_rule_ignores"]["DEP002"]
    deptry = Path(sys.executable).with_name("deptry")
    nothing_ignored = ["--per-rule-ignores", "DEP002=nothing", "--json-output", str(tmp_path / "found.json")]
    roots = ["hub", "schemas", "subscribers", "tests"]
    subprocess.run([deptry, *roots, *nothing_ignored], cwd=ROOT, capture_output=True, timeout=60, check=False)
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted(entry["module"] for entry in found) == sorted(listed)


def test_the_plain_commands_stand_beside() -> None:
    for line in ("python3 -m venv .venv", "pip install -e .", 'pip install -e ".[dev]"', "python -m pytest"):
        assert line in README


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
