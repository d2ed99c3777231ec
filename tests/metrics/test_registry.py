"""The registry of a process: series by labels, their limit, and the snapshots of all values."""

import threading
import timeit

import pytest

from hub.metrics import Histogram, Registry, decode_snapshot, encode_snapshot, histogram_of
from hub.metrics.process import observe_process
from schemas.instruments import INSTRUMENTS, OPERATION_BOUNDS

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_the_same_labels_are_the_same_series_in_any_order_and_as_text_or_number() -> None:
    registry = Registry()
    registry.counter("hub.task.cancellations", namespace="shop", task="charge").add(2)
    registry.counter("hub.task.cancellations", task="charge", namespace="shop").add(3)
    assert registry.collect().value("hub.task.cancellations", namespace="shop", task="charge") == 5
    assert registry.gauge("hub.engine.lag", partition=3) is registry.gauge("hub.engine.lag", partition="3")


def test_an_instrument_must_be_in_the_catalogue_with_this_kind_and_these_labels() -> None:
    registry = Registry()
    with pytest.raises(ValueError, match=r"hub\.tasks: the catalogue of instruments"):
        registry.counter("hub.tasks")
    with pytest.raises(ValueError, match="it is a histogram, not a counter"):
        registry.counter("hub.task.run.duration")
    with pytest.raises(ValueError, match="its labels are namespace, task, not namespace, id"):
        registry.counter("hub.task.cancellations", namespace="shop", id="order-7")
    with pytest.raises(ValueError, match="its labels are pool, not none"):
        registry.counter("hub.worker.losses")
    with pytest.raises(ValueError, match="its labels are none, not pool"):
        registry.gauge("hub.process.up", pool="a")
    assert registry.gauge("hub.queue.depth", queue="mail").value == 0, "an updown is used as a gauge"


def test_series_beyond_the_limit_are_counted_in_one() -> None:
    registry = Registry(series_max=3)
    for number in range(10):
        registry.counter("hub.worker.losses", pool=f"pool-{number}").add()
    registry.counter("hub.worker.losses", pool="pool-1").add()
    snapshot = registry.collect()
    samples = snapshot.instrument("hub.worker.losses")
    assert samples is not None
    assert {point.labels[0]: point.value for point in samples.points} == {"pool-0": 1, "pool-1": 2, "pool-2": 1, "other": 7}
    assert snapshot.value("hub.metrics.series.overflow", instrument="hub.worker.losses") == 7
    assert registry.collect().value("hub.metrics.series.overflow", instrument="hub.worker.losses") == 7


def test_a_long_label_is_truncated() -> None:
    registry = Registry()
    registry.counter("hub.worker.losses", pool="x" * 1000).add()
    assert registry.collect().value("hub.worker.losses", pool="x" * 255) == 1


def test_a_snapshot_does_not_change_and_survives_json() -> None:
    registry = Registry({"role": "engine", "process": "engine-1"}, wall_clock_ns=iter(range(100, 200)).__next__)
    duration = registry.histogram("hub.engine.commit.duration", partition=0)
    duration.record(0.2, TRACE)
    duration.record(0.3)
    snapshot = registry.collect()
    duration.record(7)
    registry.constant["role"] = "other"
    (point,) = snapshot.instruments[0].points
    assert (point.labels, point.value, point.count, point.lowest, point.highest) == (("0",), 0.5, 2, 0.2, 0.3)
    assert [(one.bucket, one.value, one.trace_id) for one in point.exemplars] == [(8, 0.2, TRACE)]
    assert snapshot.constant == {"role": "engine", "process": "engine-1"}
    assert snapshot.started_ns == 100
    assert snapshot.taken_ns > 100
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


@pytest.mark.parametrize("data", [b"", b"[]", b'{"started_ns": "1"}', b"\xff", b"[" * 100_000])
def test_what_is_not_a_snapshot_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot of metrics"):
        decode_snapshot(data)


def test_callbacks_set_gauges_before_each_collection() -> None:
    registry = Registry()
    depths = iter([4, 2])
    registry.observe(lambda: registry.gauge("hub.queue.depth", queue="mail").set(next(depths)))
    assert [registry.collect().value("hub.queue.depth", queue="mail") for _ in range(2)] == [4, 2]


def test_a_callback_can_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise OSError("the disk is gone")

    end = registry.observe(broken)
    registry.collect()
    end()
    end()
    registry.collect()
    assert calls == [1]
    warnings = [getattr(record, "action", "") for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["metrics_source_failed", "metrics_source_works"]


def test_a_series_can_be_removed_and_begins_again() -> None:
    registry = Registry(series_max=2)
    for partition in (0, 1):
        registry.gauge("hub.engine.lag", partition=partition).set(5)
    registry.forget("hub.engine.lag", partition=0)
    registry.forget("hub.engine.lag", partition=7)
    registry.forget("hub.engine.watermark.age", partition=0)
    samples = registry.collect().instrument("hub.engine.lag")
    assert samples is not None
    assert [point.labels for point in samples.points] == [("1",)]
    registry.gauge("hub.engine.lag", partition=2).set(3)
    assert registry.collect().value("hub.engine.lag", partition="2") == 3, "there is room for it again"
    with pytest.raises(ValueError, match="its labels are partition, not queue"):
        registry.forget("hub.engine.lag", queue="mail")


def test_a_callback_that_fails_is_logged_once_and_prevents_nothing(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    broken = True

    def sometimes() -> None:
        if broken:
            raise OSError("the disk is gone")

    registry.observe(sometimes)
    registry.observe(lambda: registry.gauge("hub.process.up").set(1))
    assert [registry.collect().value("hub.process.up") for _ in range(3)] == [1, 1, 1]
    broken = False
    registry.collect()
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [getattr(record, "action", "") for record in warnings] == ["metrics_source_failed", "metrics_source_works"]
    assert "the disk is gone" in warnings[0].getMessage()


def test_a_histogram_that_is_kept_as_plain_data_is_published() -> None:
    registry, kept = Registry(), histogram_of("hub.broker.fsync.duration")
    registry.publish("hub.broker.fsync.duration", kept)
    registry.publish("hub.broker.fsync.duration", kept)
    for value in (0.001, 0.1):
        kept.record(value)
    (point,) = registry.collect().instruments[0].points
    assert (point.count, point.value) == (2, 0.101)
    assert kept.bounds == OPERATION_BOUNDS
    with pytest.raises(ValueError, match="its bounds are"):
        registry.publish("hub.broker.fsync.duration", Histogram([1]))
    with pytest.raises(ValueError, match="its labels are none"):
        registry.publish("hub.broker.fsync.duration", kept, partition=1)
    with pytest.raises(ValueError, match="it is a gauge, not a histogram"):
        histogram_of("hub.process.up")


@pytest.mark.parametrize("label", ["queue", "le", "Role", "a.b", "a-b", ""])
def test_a_constant_label_must_not_be_one_of_an_instrument(label: str) -> None:
    with pytest.raises(ValueError, match="constant"):
        Registry({label: "x"})


def test_every_instrument_of_the_catalogue_can_be_used() -> None:
    registry = Registry({"role": "all"})
    for name, instrument in INSTRUMENTS.items():
        make = {"counter": registry.counter, "histogram": registry.histogram}.get(instrument.kind, registry.gauge)
        make(name, **dict.fromkeys(instrument.labels, "x"))
    assert set(registry) == set(INSTRUMENTS)
    assert len(registry.collect().instruments) == len(INSTRUMENTS)


def test_threads_that_create_series_and_collect_do_not_disturb_each_other() -> None:
    registry = Registry(series_max=10_000)
    threads, each = 4, 500
    done = threading.Event()

    def create(worker: int) -> None:
        for number in range(each):
            registry.counter("hub.worker.losses", pool=f"{worker}/{number}").add()
            registry.histogram("hub.worker.body.duration", namespace="", task=f"{worker}/{number}", outcome="ok").record(1)

    def collect() -> None:
        while not done.is_set():
            registry.collect()

    collecting = threading.Thread(target=collect)
    collecting.start()
    creating = [threading.Thread(target=create, args=(number,)) for number in range(threads)]
    for thread in creating:
        thread.start()
    for thread in creating:
        thread.join()
    done.set()
    collecting.join()
    snapshot = registry.collect()
    for name in ("hub.worker.losses", "hub.worker.body.duration"):
        samples = snapshot.instrument(name)
        assert samples is not None
        assert [point.value for point in samples.points] == [1.0] * (threads * each)


def test_the_process_measures_itself() -> None:
    registry = Registry()
    observe_process(registry, iter([10.0, 12.5, 13.0]).__next__)
    first, second = registry.collect(), registry.collect()
    assert first.value("hub.process.up") == 1
    assert (first.value("hub.process.uptime"), second.value("hub.process.uptime")) == (2.5, 3.0)
    assert second.value("hub.process.memory") > 1_000_000
    assert second.value("hub.process.cpu.time") >= first.value("hub.process.cpu.time") > 0


def test_writing_a_series_takes_about_a_microsecond() -> None:
    registry = Registry()
    counter, histogram = registry.counter("hub.worker.losses", pool="a"), registry.histogram("hub.broker.fsync.duration")
    add = min(timeit.repeat(counter.add, number=10_000, repeat=3)) / 10_000 * 1e6
    record = min(timeit.repeat(lambda: histogram.record(0.01), number=10_000, repeat=3)) / 10_000 * 1e6
    print(f"counter.add {add:.2f} us, histogram.record {record:.2f} us")
    assert max(add, record) < 20, "twenty times of what it takes on a slow machine"
