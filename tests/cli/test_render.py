"""Text for people and JSON for machines, without a hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hub.cli import build
from hub.cli.fields import type_text
from hub.cli.render import clock, duration, event_line, print_fields, size
from hub.cli.status import print_storage
from hub.errors import HubError
from schemas import CATALOGUE
from schemas.contract import CONTRACT, example, json_schema
from tests.cli.running import hub_alone
from tests.engine.harness import World


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0004, "<1 ms"),
        (0.0421, "42 ms"),
        (0.9999, "1.0 s"),
        (61.26, "61.3 s"),
        (150, "2 min 30 s"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_length_of_time_is_told_in_the_unit_that_reads_best(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1_023, "1023 bytes"),
        (1_024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_a_size_reads_in_its_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_a_point_in_time_is_told_to_the_millisecond() -> None:
    assert clock("2026-01-02T03:04:05.678901Z") == "03:04:05.678"
    assert clock("") == ""


def test_fields_that_say_nothing_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("task", "t1"), ("root", None), ("reason", ""), ("attempt", 2)])
    assert capsys.readouterr().out == "task     t1\nattempt  2\n"


def test_an_event_is_one_line() -> None:
    world = World()
    world.put("task.created", {"name": "charge", "id": "t1"})
    world.step()
    lines = [event_line(event) for event in world.events if event.subject == "t1"]
    assert all("\n" not in line for line in lines)
    assert "task.created" in lines[0]
    assert "task/t1 #1" in lines[0]
    assert "charge" in lines[0]


def printed(*arguments: str) -> str:
    """What a command without a hub prints."""
    done = hub_alone(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_catalogue_as_a_table_and_as_json() -> None:
    rows = json.loads(printed("events", "list", "--json"))
    assert [row["type"] for row in rows] == list(CATALOGUE)
    assert rows[0].keys() == {"type", "entity", "severity", "terminal", "since", "when"}
    lines = printed("events", "list").splitlines()
    assert len(lines) == len(CATALOGUE) + 1
    assert lines[0].split() == ["TYPE", "ENTITY", "SEVERITY", "WHEN"]


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_a_type_is_shown_with_what_every_field_means(event_type: str) -> None:
    shown, schema = printed("events", "show", event_type), json.loads(printed("events", "show", event_type, "--json"))
    assert CATALOGUE[event_type].when in shown
    assert schema["properties"].keys() == set(CATALOGUE[event_type].data.__struct_fields__)
    for name, field in schema["properties"].items():
        [row] = [line for line in shown.split("\n\n")[1].splitlines() if line.split(" ", 1)[0] == name]
        assert row.endswith(field["description"])


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("task.complete", "Did you mean task.completed?"), ("tasks.*", "Did you mean task.*?"), ("zzz", "See `hub events list`.")],
)
def test_a_filter_that_no_type_fits_is_refused_with_the_closest(pattern: str, hint: str) -> None:
    done = CliRunner().invoke(build(), ["events", "tail", "--type", pattern])
    assert done.exit_code == 2
    assert hint in " ".join(done.output.replace("│", " ").split())


def test_an_unknown_type_is_refused_with_the_closest() -> None:
    done = CliRunner().invoke(build(), ["events", "show", "task.complete"])
    assert done.exit_code == 2
    assert "task.completed" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["task", "create"],
        ["task", "create", "x", "--args", "{bad"],
        ["task", "create", "x", "--args", "[1]"],
        ["task", "create", "x", "--args", "@/nowhere/args.json"],
        ["task", "create", "--file", "/nowhere/order.json"],
        ["task", "create", "x", "--timeout", "5"],
        ["task", "create", "x", "--wait", "--timeout", "-1"],
        ["task", "list", "--limit", "0"],
        ["events", "tail", "--from", "middle"],
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_asked(arguments: list[str]) -> None:
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 2, done.output


def test_sizes_are_shown_as_far_as_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    print_storage([], {"usable_bytes": None, "total_bytes": None, "unanswered": ["a:1", "b:1"]})
    nothing = capsys.readouterr()
    assert (nothing.out, nothing.err) == ("", "The sizes at a:1, b:1 are unknown: no response to DescribeLogDirs.\n")
    print_storage([{"topic": "hub.events", "bytes": 2048}], {"usable_bytes": 1 << 30, "total_bytes": 1 << 31, "unanswered": []})
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [line.split() for line in shown.out.splitlines() if line] == [
        ["TOPIC", "SIZE"],
        ["hub.events", "2.0", "KiB"],
        ["1.0", "GiB", "of", "2.0", "GiB", "are", "free", "on", "the", "broker's", "disk"],
    ]


def test_the_types_of_the_contract_as_a_table_and_as_json() -> None:
    rows = json.loads(printed("schema", "list", "--json"))
    assert [row["type"] for row in rows] == list(CONTRACT)
    assert rows[0].keys() == {"type", "value_of", "written_by", "when"}
    assert all(row["when"].endswith(".") for row in rows)
    assert len(printed("schema", "list").splitlines()) == len(CONTRACT) + 1


@pytest.mark.parametrize("name", CONTRACT)
def test_a_type_of_the_contract_is_shown_in_three_ways(name: str) -> None:
    schema = json.loads(printed("schema", "show", name, "--json"))
    assert schema == json_schema(name)
    assert json.loads(printed("schema", "show", name, "--example")) == example(name)
    shown = printed("schema", "show", name)
    below = list(schema.get("$defs", {}).values())
    for field in [field for one in [schema, *below] for field in one["properties"].values()]:
        assert field["description"] in shown


def test_a_type_of_the_contract_is_found_without_its_kind_where_that_is_clear() -> None:
    assert printed("schema", "show", "attempt.execute") == printed("schema", "show", "commands/attempt.execute")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("task.created", "events/task.created or reports/task.created"), ("attempt.executes", "attempt.execute?"), ("x", "list")],
)
def test_a_type_of_the_contract_that_is_unknown_or_ambiguous_is_refused(name: str, hint: str) -> None:
    done = CliRunner().invoke(build(), ["schema", "show", name])
    assert done.exit_code == 2
    assert hint in " ".join(done.output.replace("│", " ").split())


def test_the_contract_is_exported_as_two_files_for_each_type(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "other.txt").write_text("stays")
    assert printed("schema", "export", "--out", str(tmp_path)) == f"{len(CONTRACT)} types written to {tmp_path}\n"
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    assert written == {f"{name}.{what}.json" for name in CONTRACT for what in ("schema", "example")}
    assert json.loads((tmp_path / "replies" / "task.schema.json").read_bytes()) == json_schema("replies/task")
    assert json.loads((tmp_path / "replies" / "task.example.json").read_bytes()) == example("replies/task")
    assert (tmp_path / "events" / "other.txt").read_text() == "stays"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match=f"cannot be written to {tmp_path}/file"):
        CliRunner().invoke(build(), ["schema", "export", "--out", str(tmp_path / "file")], catch_exceptions=False)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, "string"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"type": "array", "items": {"$ref": "#/$defs/Dependency"}}, "list of Dependency"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string"),
        ({"enum": ["a", "b"]}, '"a" or "b"'),
        ({}, "any JSON"),
    ],
)
def test_a_type_is_said_in_few_words(schema: dict[str, Any], text: str) -> None:
    assert type_text(schema) == text
