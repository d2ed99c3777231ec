"""What rules find in scripted logs."""

from .logs import at, completed, event, rule, run_history, spans


def failures(*seconds: float, task: str = "charge") -> list:  # type: ignore[type-arg]
    return [event(second, "task.failed", task, id=f"{task}-{second}") for second in seconds]


def test_a_threshold_fires_while_there_are_enough_events_in_its_window() -> None:
    three = rule(kind="threshold", match={"type": "task.failed"}, window="60s", at_least=3)
    assert spans(run_history(three, failures(0, 10, 20), 200)) == [("", 20, 62)]
    assert not run_history(three, failures(0, 10, 75), 200)


def test_a_threshold_that_is_met_again_fires_again() -> None:
    two = rule(kind="threshold", match={"type": "task.failed"}, window="10s", at_least=2)
    assert spans(run_history(two, failures(0, 1, 30, 31), 100)) == [("", 1, 11), ("", 31, 41)]


def test_each_key_has_an_alert_of_its_own() -> None:
    two = rule(kind="threshold", match={"type": "task.failed"}, for_each=["task", "queue"], window="60s", at_least=2)
    log = sorted([*failures(0, 10), *failures(5, 20, task="mail"), *failures(7, task="pack")], key=lambda one: one.time)
    assert [(key, fired) for key, fired, _ in spans(run_history(two, log, 40))] == [("charge,mail", 10), ("mail,mail", 20)]


def test_a_ratio_needs_enough_events() -> None:
    half = rule(
        kind="threshold",
        measure="ratio",
        match={"type": ["task.failed", "task.completed"]},
        part={"type": "task.failed"},
        window="60s",
        at_least=0.5,
        events_min=4,
    )
    log = [completed(0), completed(1), *failures(2), completed(3), *failures(4, 5), completed(70), completed(71)]
    (firing,) = run_history(half, log, 300)
    assert spans([firing])[0][:2] == ("", 5)
    assert firing.transition.finding is not None
    assert firing.transition.finding.value == 0.5
    assert [cause.task for cause in firing.transition.finding.causes] == ["charge-2", "charge-4", "charge-5"]


def test_a_percentile_of_the_run_time_fires() -> None:
    slow = rule(kind="threshold", measure="p95", of="run", match={"type": "task.completed"}, window="60s", at_least=2.0)
    fast = [completed(second, run=0.1) for second in range(20)]
    assert not run_history(slow, fast, 100)
    assert spans(run_history(slow, [*fast, *[completed(20 + number, run=3) for number in range(5)]], 30)) == [("", 21, None)]


def test_an_alert_near_its_threshold_resolves_at_another_value() -> None:
    log = failures(0, 2, 4, 12, 14, 22, 24)
    plain = rule(kind="threshold", match={"type": "task.failed"}, window="10s", at_least=3)
    steady = rule(kind="threshold", match={"type": "task.failed"}, window="10s", at_least=3, resolve_at=1)
    assert len(run_history(plain, log, 100)) > 1
    assert spans(run_history(steady, log, 100)) == [("", 4, 35)]


def test_below_a_threshold_fires_once_a_whole_window_was_read() -> None:
    few = rule(kind="threshold", match={"type": "task.completed"}, window="10s", below=2)
    log = [completed(0), completed(5), *[completed(10 + second) for second in range(20)]]
    assert spans(run_history(few, [*log, event(60, "worker.lost", id="w")], 60)) == [("", 39, None)]


def test_absence_fires_when_nothing_happens() -> None:
    absent = rule(kind="absence", match={"type": "task.completed"}, window="1m")
    assert spans(run_history(absent, [completed(0), completed(30), completed(200)], 230)) == [("", 90, 200)]


def test_absence_of_an_expected_key_fires_if_it_never_occurred() -> None:
    absent = rule(kind="absence", match={"type": "task.completed"}, for_each=["task"], keys=["nightly"], window="1m")
    assert spans(run_history(absent, [completed(0, "charge"), completed(50, "charge")], 120)) == [
        ("nightly", 60, None),
        ("charge", 110, None),
    ]


def test_a_sequence_that_is_incomplete_fires() -> None:
    stuck = rule(
        kind="sequence", match={"type": "task.created"}, then={"type": "task.started"}, within="10s", missing=True, window="60s"
    )
    log = [
        event(0, "task.created", id="a"),
        event(1, "task.created", id="b"),
        event(5, "task.started", id="a"),
        event(30, "task.started", id="b"),
    ]
    firings = run_history(stuck, log, 100)
    assert [(key, fired) for key, fired, _ in spans(firings)] == [("", 11)]
    assert firings[0].resolved is not None
    assert firings[0].transition.data.tasks == ["b"]  # type: ignore[union-attr]


def test_a_sequence_that_is_complete_in_time_fires() -> None:
    flapping = rule(
        kind="sequence", match={"type": "task.failed"}, then={"type": "task.created"}, within="10s", by="correlation", at_least=1
    )
    by_subject = rule(kind="sequence", match={"type": "task.retry_scheduled"}, then={"type": "task.failed"}, within="10s")
    log = [event(0, "task.retry_scheduled", id="a"), event(5, "task.failed", id="a"), event(20, "task.failed", id="a")]
    assert not run_history(flapping, log, 30)
    assert [(key, fired) for key, fired, _ in spans(run_history(by_subject, log, 30))] == [("", 5)]


def test_an_error_budget_that_is_consumed_too_fast_fires_and_resolves_with_the_short_window() -> None:
    slo = rule(
        kind="slo",
        match={"type": ["task.completed", "task.failed"]},
        bad={"type": "task.failed"},
        objective=0.9,
        burns=[{"long": "60s", "short": "10s", "factor": 2}],
        events_min=5,
    )
    good = [completed(second) for second in range(10)]
    log = [*good, *failures(10, 11, 12, 13, 14, 15), *[completed(second) for second in range(16, 40)]]
    # 3 of 13 are failures, 2.3 times the budget of 10 %; of the last 10 s it is 2 of 11 from the 24th second on.
    assert spans(run_history(slo, log, 60)) == [("", 12, 24)]


def test_the_dry_run_lists_firings_from_its_beginning_only() -> None:
    from hub.analytics import RuleTrial

    two = rule(kind="threshold", match={"type": "task.failed"}, window="10s", at_least=2)
    history = RuleTrial([two], begin=at(20))
    for one in failures(0, 1, 30, 31):
        history.take(one)
    assert spans(history.finish(at(100))) == [("", 31, 41)]
