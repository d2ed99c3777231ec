"""The import names of the project are generic: if another module with such a name is found first, the hub reports that."""

import subprocess
import sys
from pathlib import Path

import pytest


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, which is then first on its path."""
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["schemas", "subscribers"])
@pytest.mark.parametrize("place", ["{}.py", "{}/__init__.py"])
def test_a_module_of_a_user_that_shadows_ours_is_named(tmp_path: Path, name: str, place: str) -> None:
    theirs = tmp_path / place.format(name)
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("class Order: ...\n")
    done = python(tmp_path, "-c", "import hub")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: {name!r} resolves to {theirs}, which is not taskhub's")
    assert last.endswith("Rename that module, or install the hub into a separate environment.")


def test_a_folder_without_code_is_named_too_where_it_comes_first(tmp_path: Path) -> None:
    """It does where the hub is installed as editable; otherwise an installed package wins over a mere folder."""
    (tmp_path / "schemas").mkdir()
    done = python(tmp_path, "-c", "import hub, schemas; schemas.Submission")
    assert done.returncode == 0 or f"'schemas' resolves to {tmp_path / 'schemas'}, which is not taskhub's" in done.stderr


def test_the_command_is_not_disturbed_by_a_users_module(tmp_path: Path) -> None:
    """It does not look into the current folder for itself; a worker's module that expects its own `schemas` is told."""
    (tmp_path / "schemas.py").write_text("class Order: ...\n")
    (tmp_path / "app.py").write_text("from schemas import Order\n")
    hub = Path(sys.executable).with_name("hub")
    done = subprocess.run([hub, "worker", "app:tasks"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cannot import name 'Order' from 'schemas'" in done.stderr
    assert "Traceback" not in done.stderr
