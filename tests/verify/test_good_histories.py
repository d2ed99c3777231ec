"""A valid history has no findings."""

import re
from pathlib import Path
from typing import Any

import pytest

import hub.verify
from hub.verify import INVARIANTS, Checker, Options, check
from hub.verify.placement import murmur2

from .log_builder import LogBuilder
from .scenarios import ALL, ENDING, LATER, Scenario, good_log, run


@pytest.mark.parametrize("count", [1, 4])
def test_a_good_history_has_no_findings(count: int) -> None:
    report = check(good_log(count).history())
    assert report.ok, report.render()
    assert report.live_tasks == 2
    assert report.partitions == count


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_each_run_of_a_task_is_accepted(scenario: Scenario) -> None:
    log = LogBuilder(4)
    log.worker("w1")
    report = check(run(log, [scenario(log, "only")]).history())
    assert report.ok, report.render()


def test_a_finished_run_satisfies_the_strict_option() -> None:
    report = check(good_log(2, (*ENDING, *LATER)).history(), Options(require_all_ended=True))
    assert report.ok, report.render()
    assert {"I2", "I33"} <= set(report.checked)


def test_what_lacks_its_input_is_named_as_skipped() -> None:
    report = check(good_log(1).history(commands=None, intake=None))
    assert report.ok, report.render()
    assert {"I23", "I31", "I27", "I34"} <= set(report.skipped)
    assert set(report.checked) | set(report.skipped) == set(INVARIANTS)


def test_a_log_whose_beginning_was_deleted_is_accepted() -> None:
    log = good_log(1)
    cut = next(
        number for number, entry in enumerate(log.partitions[0].events) if number > 20 and entry.body["src"].endswith("/0")
    )
    del log.partitions[0].events[:cut]
    start = log.partitions[0].events[0].offset
    report = check(log.history(starts={"hub.events": {0: start}}))
    assert report.ok, report.render()


def test_a_busy_hub_is_checked_up_to_what_was_read() -> None:
    whole = good_log(1)
    history: Any = whole.history()  # its parts are known to be there and to be lists
    checker = Checker(1)
    for record in history.events[0][:40]:
        checker.event(0, record)
    for key, value in history.state[0].items():
        checker.row(0, key, value)
    for record in history.commands["hub.commands.default"][3]:
        checker.command("hub.commands.default", 3, record)
    for record in history.intake[0]:
        checker.intake_record(0, record)
    report = checker.finish(exact=False)
    assert report.ok, report.render()
    assert report.newer > 0


def test_a_report_is_plain_data_and_text() -> None:
    log = good_log(1)
    report = check(log.history())
    assert report.to_dict()["ok"] is True
    assert "no findings" in report.render()
    log.partitions[0].events[7].headers["ce_id"] = "other"
    report = check(log.history())
    assert report.to_dict()["findings"][0]["offset"] == log.partitions[0].events[7].offset
    assert "I32" in report.render()


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafkas_java_client(data: bytes, hashed: int) -> None:
    assert murmur2(data) == hashed & 0xFFFFFFFF


def test_every_id_that_is_reported_has_a_sentence() -> None:
    folder = Path(str(hub.verify.__file__)).parent
    used = {name for path in folder.glob("*.py") for name in re.findall(r'"([A-Z]\d+)"', path.read_text())}
    assert used == INVARIANTS.keys()
    assert all(row.sentence.endswith(".") for row in INVARIANTS.values())
