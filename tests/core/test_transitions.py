"""The table of transitions, row by row, and the diagram generated from it."""

from pathlib import Path
from runpy import run_path

import pytest

from hub.core import transitions
from hub.core.evolve import TASK_EVOLVERS
from hub.core.indexes import MOVES
from hub.core.transitions import BY_EVENT, LIVE, TRANSITIONS, Transition, diagram
from schemas import CATALOGUE, TERMINAL_STATES, TERMINAL_TYPES
from schemas.events import AttemptCancelledEvent, AttemptGranted, TaskCreated, WorkflowStepsReady

STATES = {"", *LIVE, *TERMINAL_STATES}
#: What changes only the sequence of a task's row, and its state where the table names one.
CHANGE_NO_FIELD = {AttemptCancelledEvent, AttemptGranted, WorkflowStepsReady}
HUB_README = Path(__file__).parents[2] / "hub" / "README.md"


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_every_row_is_an_event_of_a_task_in_the_catalogue_and_has_an_evolver_if_it_changes_a_field(row: Transition) -> None:
    assert CATALOGUE[row.name].entity == "task"
    assert row.event is TaskCreated or (row.event in TASK_EVOLVERS) != (row.event in CHANGE_NO_FIELD)
    assert set(row.sources) <= STATES
    assert row.target is None or row.target in STATES
    assert set(row.causes) <= {"producer", "worker", "operator", "timer", "engine"}
    assert row.causes


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_an_event_is_allowed_in_its_sources_and_nowhere_else(row: Transition) -> None:
    assert {state for state in STATES if state in MOVES[row.event]} == set(row.sources)


def test_every_event_of_a_task_has_a_row_once() -> None:
    assert set(BY_EVENT) == {row.data for row in CATALOGUE.values() if row.entity == "task"}
    assert len(BY_EVENT) == len(TRANSITIONS)


def test_terminal_events_end_in_terminal_states_and_nothing_leaves_them() -> None:
    for row in TRANSITIONS:
        assert (row.target in TERMINAL_STATES) == (row.name in TERMINAL_TYPES)
        assert not set(row.sources) & TERMINAL_STATES


def test_every_state_can_be_reached_and_every_live_state_can_end() -> None:
    reachable = {""}
    for _ in TRANSITIONS:
        reachable |= {row.target for row in TRANSITIONS if row.target and set(row.sources) & reachable}
    assert reachable == STATES
    ending = set(TERMINAL_STATES)
    for _ in TRANSITIONS:
        ending |= {source for row in TRANSITIONS if row.target in ending for source in row.sources}
    assert ending == STATES


def test_the_diagram_in_the_readme_is_that_of_the_table() -> None:
    assert diagram() in HUB_README.read_text(), "run `python -m hub.core.transitions` and put what it prints into hub/README.md"


def test_the_module_prints_the_diagram(capsys: pytest.CaptureFixture[str]) -> None:
    path = transitions.__file__
    assert path is not None
    run_path(path, run_name="__main__")
    assert capsys.readouterr().out == diagram()
