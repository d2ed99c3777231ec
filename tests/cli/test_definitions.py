"""`hub definitions`: what is registered, and a version that is deprecated, against a running hub."""

import json
from collections.abc import Iterator

import pytest

from hub.cli.definition_rows import listed
from hub.core import DefinitionRow
from schemas import Definition
from tests.cli.running import hub_inside, served


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hub with two partitions whose worker has two versions of one task."""
    with served("tests.cli.versions_app:tasks", partitions=2) as bootstrap:
        yield bootstrap


def definitions(address: str, *arguments: str) -> dict[str, dict[str, object]]:
    """What `hub definitions` prints as JSON, by version."""
    done = hub_inside("definitions", *arguments, "--json", bootstrap=address)
    assert done.returncode == 0, done.stderr
    return {one["version"]: one for one in json.loads(done.stdout)["definitions"]}


def test_versions_are_listed_shown_and_deprecated(address: str) -> None:
    found = definitions(address, "list", "--name", "gr*")
    assert [(version, one["default"], one["partitions"], one["of"]) for version, one in found.items()] == [
        ("1", False, 2, 2),
        ("2", True, 2, 2),
    ]
    assert "timeout_seconds" in hub_inside("definitions", "show", "greet", "--version", "2", bootstrap=address).stdout
    assert run(address) == "two"
    assert run(address, version="1") == "one"

    done = hub_inside("definitions", "deprecate", "greet", "--version", "2", "--reason", "too loud", bootstrap=address)
    assert (done.returncode, done.stdout) == (0, "greet in version 2 is deprecated.\n")
    again = hub_inside("definitions", "deprecate", "greet", "--version", "2", bootstrap=address)
    assert again.returncode == 0, "it holds already"
    assert run(address) == "one"
    found = definitions(address, "show", "greet")
    assert [(version, one["state"], one["default"]) for version, one in found.items()] == [
        ("1", "active", True),
        ("2", "deprecated", False),
    ]
    assert found["2"]["reason"] == "too loud"
    table = hub_inside("definitions", "list", bootstrap=address).stdout
    assert "deprecated" in table
    assert "too loud" in table

    named = hub_inside("task", "create", "--file", "-", "--wait", stdin='{"name": "greet", "version": "2"}', bootstrap=address)
    assert (named.returncode, named.stdout) == (0, '"two"\n')
    assert named.stderr == "Warning: '*/greet@2' is deprecated.\n"


def run(address: str, **fields: str) -> str:
    done = hub_inside("task", "create", "--file", "-", "--wait", stdin=json.dumps({"name": "greet", **fields}), bootstrap=address)
    assert done.returncode == 0, done.stderr
    answer: str = json.loads(done.stdout)
    return answer


def test_an_unknown_version_ends_the_wait_with_1_and_says_which_there_are(address: str) -> None:
    refused = hub_inside("task", "create", "--file", "-", "--wait", stdin='{"name": "greet", "version": "7"}', bootstrap=address)
    assert refused.returncode == 1
    assert "it has 1, 2" in refused.stdout


def test_what_nobody_has_registered_cannot_be_deprecated_nor_shown(address: str) -> None:
    refused = hub_inside("definitions", "deprecate", "nobody", bootstrap=address)
    assert refused.returncode == 1
    assert "unknown_version" in refused.stderr
    unknown = hub_inside("definitions", "show", "nobody", bootstrap=address)
    assert unknown.returncode == 1
    assert "No worker has registered nobody" in unknown.stderr


def test_partitions_that_differ_are_listed_as_one_that_says_so() -> None:
    old = DefinitionRow(definition=Definition(name="a"), state="active", registered_at="2026-01-01T00:00:00Z")
    new = DefinitionRow(
        definition=Definition(name="a", timeout_seconds=3.0), state="active", registered_at="2026-01-02T00:00:00Z"
    )
    [line] = listed({"*/a@1": [new, old]}, 3)
    assert (line.options.timeout_seconds, line.partitions, line.of, line.default) == (3.0, 2, 3, True)
