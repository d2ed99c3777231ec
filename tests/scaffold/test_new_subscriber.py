"""`hub new subscriber`: what it writes works as it is, for every kind."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hub.scaffold import KINDS, ScaffoldError, SubscriberPackage, write_package

ROOT = Path(__file__).parents[2]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with the hub's packages and the folder on the path."""
    environment = {"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_of_a_new_package_pass_as_they_are_written(kind: str, tmp_path: Path) -> None:
    package = SubscriberPackage.of("order-watch", ["task.failed", "workflow.*"], kind)
    write_package(package, tmp_path)
    done = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_test_of_a_new_package_fails_when_its_handler_does_nothing(tmp_path: Path) -> None:
    tests = []
    for kind in KINDS:
        package = SubscriberPackage.of(f"idle-{kind}", ["task.failed"], kind)
        write_package(package, tmp_path / kind)
        make_idle(tmp_path / kind / package.module / "__init__.py")
        tests.append(f"{kind}/tests/test_{package.module}.py")
    path = " ".join(str(tmp_path / kind) for kind in KINDS)
    settings = ("-c", f"{KINDS[0]}/pyproject.toml", "--rootdir", ".", "-o", f"pythonpath={path}")
    done = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings, *tests)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {line.split("::")[0] for line in done.stdout.splitlines() if line.startswith("FAILED ")}
    assert failed == {f"FAILED {test}" for test in tests}, done.stdout


def make_idle(module: Path) -> None:
    """Let the handler of a new package do nothing."""
    head, _, rest = module.read_text().partition("    @on(")
    signature, _, _ = rest.partition('"""')
    module.write_text(f'{head}    @on({signature}"""Do nothing."""\n')


def test_the_package_has_an_entry_point_and_a_table_of_its_events(tmp_path: Path) -> None:
    package = SubscriberPackage.of("pager", ["workflow.*"], "alert")
    write_package(package, tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["taskhub.subscribers"] == {"pager": "taskhub_pager:PagerSubscriber"}
    settings = tomllib.loads((tmp_path / "hub.toml").read_text())
    assert settings["subscribers"][0]["use"] == "pager"
    readme = (tmp_path / "README.md").read_text()
    assert "| `workflow.failed` | A step failed, and no step can run any longer. |" in readme
    assert "task.failed" not in readme


@pytest.mark.parametrize(
    ("name", "events", "kind", "fault"),
    [
        ("Pager", ["task.failed"], "alert", "NAME: 'Pager'"),
        ("../evil", ["task.failed"], "alert", "NAME: "),
        ("", ["task.failed"], "alert", "NAME: "),
        ("class", ["task.failed"], "alert", "NAME: "),
        ("pager", ["task.exploded"], "alert", "--events: 'task.exploded' matches no event type"),
        ("pager", [], "alert", "--events: "),
        ("pager", ["*"], "mail", "--kind: 'mail' is not one of alert, batch, metrics, sink"),
    ],
)
def test_invalid_arguments_are_named(name: str, events: list[str], kind: str, fault: str) -> None:
    with pytest.raises(ScaffoldError, match=f"^{fault.replace('*', '.')}"):
        SubscriberPackage.of(name, events, kind)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    package = SubscriberPackage.of("pager", ["*"], "metrics")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ScaffoldError, match=r"README\.md exists already"):
        write_package(package, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
