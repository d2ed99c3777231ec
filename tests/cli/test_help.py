"""The help of every command consists of sentences."""

from collections.abc import Iterator

import pytest
import typer.main
from rich.markup import render

from hub.cli import build


def commands(command: object, path: str = "hub") -> Iterator[tuple[str, object]]:
    """Every command and group, by its path."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


EVERY = dict(commands(typer.main.get_command(build())))


def test_the_promised_commands_are_there() -> None:
    tasks = {f"hub task {name}" for name in ("create", "get", "list", "watch", "cancel")}
    events = {f"hub events {name}" for name in ("tail", "list", "show")}
    benches = {f"hub bench {name}" for name in ("throughput", "latency", "fanout", "chain", "broker", "engine", "idle", "memory")}
    assert tasks | events | benches | {"hub verify", "hub demo"} <= EVERY.keys()


@pytest.mark.parametrize("name", [path.removeprefix("hub ") for path in EVERY if path.count(" ") == 1])
def test_a_command_is_complete_without_the_modules_of_the_others(name: str) -> None:
    alone = dict(commands(typer.main.get_command(build(name))))
    found = {path for path in alone if path == f"hub {name}" or path.startswith(f"hub {name} ")}
    assert found == {path for path in EVERY if path == f"hub {name}" or path.startswith(f"hub {name} ")}
    assert len(alone) < len(EVERY)


@pytest.mark.parametrize("path", EVERY)
def test_a_command_says_what_it_does(path: str) -> None:
    help_text = getattr(EVERY[path], "help", None)
    assert help_text, "it has no help"
    first = help_text.strip().split("\n\n")[0].replace("\n", " ")
    assert first[0].isupper() or first.startswith("taskhub"), first
    assert first.endswith("."), first


@pytest.mark.parametrize("path", EVERY)
def test_no_help_has_words_that_the_terminal_takes_for_a_style(path: str) -> None:
    texts = [EVERY[path].help, *(getattr(parameter, "help", None) for parameter in EVERY[path].params)]  # type: ignore[attr-defined]
    for text in filter(None, texts):
        assert render(text).plain == text


@pytest.mark.parametrize("path", EVERY)
def test_every_argument_and_option_says_what_it_means(path: str) -> None:
    for parameter in EVERY[path].params:  # type: ignore[attr-defined]
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        assert parameter.help, f"{parameter.name} has no help"
        assert parameter.help.endswith(".") or "." in parameter.help, f"{parameter.name}: {parameter.help!r} is not a sentence"


@pytest.mark.parametrize("path", [path for path in EVERY if path.startswith(("hub task ", "hub events tail", "hub bench "))])
def test_exit_codes_are_documented(path: str) -> None:
    assert "Exit codes: 0 " in " ".join(EVERY[path].help.split())  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", EVERY)
def test_the_terminal_decides_where_a_paragraph_is_broken(path: str) -> None:
    assert all("\n" not in paragraph for paragraph in EVERY[path].help.split("\n\n"))  # type: ignore[attr-defined]
