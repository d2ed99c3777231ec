"""The tests that run with a mutant are those that may kill it."""

from pathlib import Path

from .recordings import SHARED, Recording, choose, digests, load, store, within

FILE = "hub/core/decide.py"
RECORDINGS = [
    Recording(
        "1", {"slow": 9.0, "fast": 0.1, "other": 0.2}, [], {"slow": {FILE: [4, 5]}, "fast": {FILE: [5]}, SHARED: {FILE: [1]}}
    ),
    Recording("2", {"process": 0.3, "both": 5.0}, ["process", "both"], {"both": {FILE: [5]}, "process": {"hub/errors.py": [4]}}),
]


def test_tests_that_execute_a_line_run_the_fastest_first_and_then_those_that_start_processes() -> None:
    assert list(choose(RECORDINGS, FILE, range(5, 6)).items()) == [("fast", 0.1), ("both", 5.0), ("slow", 9.0), ("process", 0.3)]
    assert list(choose(RECORDINGS, FILE, range(3, 5))) == ["slow", "process", "both"]


def test_every_test_runs_for_a_line_that_is_executed_outside_of_tests_or_not_at_all() -> None:
    every = ["fast", "other", "slow", "process", "both"]
    assert list(choose(RECORDINGS, FILE, range(1, 6))) == every
    assert list(choose(RECORDINGS, FILE, range(7, 9))) == every


def test_tests_can_be_limited_to_the_fastest() -> None:
    tests = {"a": 2.0, "b": 3.0, "c": 4.0}
    assert within(tests, 5.0) == {"a": 2.0, "b": 3.0}
    assert within(tests, 1.0) == {"a": 2.0}


def test_a_recording_is_valid_for_the_code_and_the_test_file_that_it_was_made_of(tmp_path: Path) -> None:
    for name in ("hub/a.py", "tests/test_a.py", "tests/test_b.py", "tests/conftest.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")

    def digest() -> str:
        return digests(tmp_path, ["tests/test_a.py"])["tests/test_a.py"]

    seen = {digest()}
    (tmp_path / "tests/test_b.py").write_text("pass")
    assert digest() in seen
    for name in ("hub/a.py", "tests/test_a.py", "tests/conftest.py"):
        (tmp_path / name).write_text("pass")
        assert digest() not in seen
        seen.add(digest())


def test_a_recording_of_other_content_is_not_used(tmp_path: Path) -> None:
    assert load(tmp_path, "tests/core/test_decide.py", "1") is None
    for recording in RECORDINGS:
        store(tmp_path, "tests/core/test_decide.py", recording)
    assert load(tmp_path, "tests/core/test_decide.py", "1") is None
    assert load(tmp_path, "tests/core/test_decide.py", "2") == RECORDINGS[1]
