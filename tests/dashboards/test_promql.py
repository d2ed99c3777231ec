"""Expressions are built from the catalogue, and from nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hub.dashboards import promql

from .expressions import Named, named_in


def test_operators_of_labels() -> None:
    found = promql.series("hub.queue.depth", queue="a")
    assert found == 'hub_queue_depth{queue="a"}'
    assert (
        promql.series("hub.worker.count", pool="~$pool", state="!offline") == 'hub_worker_count{pool=~"$pool", state!="offline"}'
    )
    assert promql.series("hub.worker.count", pool="!~a|b") == 'hub_worker_count{pool!~"a|b"}'
    assert promql.series("hub.process.up", role="engine") == 'hub_process_up{role="engine"}'


def test_a_quantile_is_over_buckets_and_a_mean_over_sums_and_counts() -> None:
    assert promql.quantile(0.99, "hub.engine.commit.duration", "partition", window="10m") == (
        "histogram_quantile(0.99, sum by (le, partition) (rate(hub_engine_commit_duration_seconds_bucket[10m])))"
    )
    assert promql.mean("hub.engine.batch.records") == (
        "sum(rate(hub_engine_batch_records_sum[$__rate_interval])) / sum(rate(hub_engine_batch_records_count[$__rate_interval]))"
    )


def test_what_is_rare_is_counted_as_in_the_test_of_promtool() -> None:
    rules = yaml.safe_load((Path(__file__).parent / "promtool" / "counting.yaml").read_text())
    (test,) = rules["tests"]
    assert test["promql_expr_test"][0]["expr"] == promql.counted("hub.worker.losses", "5m", "pool")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: promql.series("hub.queue.length"), "'hub.queue.length' is not an instrument of the catalogue"),
        (lambda: promql.series("hub.queue.depth", task="t"), "hub.queue.depth has no label 'task': its labels are queue"),
        (lambda: promql.series("hub.engine.lag", le="1"), "hub.engine.lag has no label 'le'"),
        (lambda: promql.series("hub.task.run.duration"), "hub.task.run.duration is a histogram"),
        (lambda: promql.rate("hub.queue.depth"), "hub.queue.depth is a updown, not a counter"),
        (lambda: promql.quantile(0.5, "hub.attempts"), "hub.attempts is a counter, not a histogram"),
    ],
)
def test_what_the_catalogue_does_not_have_is_refused(build: Callable[[], str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_the_second_reading_finds_metrics_labels_and_groups() -> None:
    expression = (
        'topk(10, sum by (a, b) (increase(x_total{c=~"d{}", e!="f"}[$__range])) > 20) and on (g) (y offset 5m or vector(0)) == 0'
    )
    assert named_in(expression) == Named([("x_total", frozenset({"c", "e"})), ("y", frozenset())], {"a", "b", "g"})
