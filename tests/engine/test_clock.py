"""The clocks of the loop, and how far the log was read in time."""

import time

from structlog.testing import capture_logs

from hub.engine.clock import STOPPED_US, PartitionClock, SteadyClock, TimeWatermark


def test_a_steady_clock_goes_on_from_the_time_of_its_start() -> None:
    elapsed_ns = 7_000_000_000
    before_us = time.time_ns() // 1000
    clock = SteadyClock(lambda: elapsed_ns)
    after_us = time.time_ns() // 1000
    assert before_us <= clock.now_us() <= after_us
    began_us = clock.now_us()
    elapsed_ns += 5_000_999
    assert clock.now_us() == began_us + 5_000


def test_a_clock_that_counts_by_itself_does_not_go_back() -> None:
    clock = SteadyClock()
    began_us, wall_us = clock.now_us(), time.time_ns() // 1000
    assert abs(began_us - wall_us) < 60_000_000
    assert clock.now_us() >= began_us


def test_the_clock_of_a_partition_continues_from_the_time_of_the_log() -> None:
    now_us = 1_000
    clock = PartitionClock(3, lambda: now_us)
    clock.continue_from(1_000)
    assert clock.now_us() == 1_000
    clock.continue_from(1_500)
    assert clock.now_us() == 1_500
    now_us = 1_200
    assert clock.now_us() == 1_700, "it runs as fast as its source"
    clock.continue_from(1_600)
    assert clock.now_us() == 1_700, "it does not go back"
    clock.continue_from(1_800)
    assert clock.now_us() == 1_800


def test_a_system_clock_that_is_far_behind_the_log_is_a_warning() -> None:
    for behind_us, warnings in ((STOPPED_US, 0), (STOPPED_US + 1, 1)):
        with capture_logs() as logs:
            PartitionClock(3, lambda: 0).continue_from(behind_us)
        assert [(entry["partition"], entry["seconds"]) for entry in logs] == [(3, 4.0)] * warnings


def test_what_was_read_is_known_up_to_the_time_of_an_end_that_was_reached() -> None:
    watermark = TimeWatermark()
    watermark.read(position=5, end=10, end_us=100)
    assert watermark.time_us is None
    watermark.read(position=9, end=20, end_us=200)
    assert watermark.time_us is None
    watermark.read(position=10, end=20, end_us=300)
    assert watermark.time_us == 100, "the first end was reached"
    watermark.read(position=20, end=20, end_us=400)
    assert watermark.time_us == 400, "everything was read"
    watermark.read(position=20, end=30, end_us=500)
    watermark.read(position=30, end=40, end_us=600)
    assert watermark.time_us == 500
    watermark.read(position=40, end=50, end_us=700)
    assert watermark.time_us == 600
    watermark.read(position=60, end=60, end_us=650)
    assert watermark.time_us == 700, "it does not go back"
