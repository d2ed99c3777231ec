"""Trace contexts and span ids, derived from ids and runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tracing import (
    TraceContext,
    continued_trace_id,
    is_in_sample,
    parse_traceparent,
    span_id_of,
    trace_context,
    trace_id_of,
    traceparent_text,
)

UUID7 = "0190b6f0-12b5-7ae8-8f67-238d54b65eeb"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX = "0123456789abcdef"


def test_the_trace_id_of_a_uuid7_is_its_bits_in_every_run() -> None:
    assert {trace_id_of(UUID7, run) for run in (1, 2)} == {UUID7.replace("-", "")}


@pytest.mark.parametrize(
    "root",
    [
        "order-7",
        "dfc44e03-fcdd-8098-baee-d091c380b137",  # derived from an idempotency key, which may be used again after its window
        "6fa459ea-ee8a-4ca4-894e-db77e160355e",
        UUID7.upper(),
        "0190b6f012b5-7ae8-8f67-238d54b65eeb-",
        "ü",
    ],
)
def test_the_trace_id_of_any_other_id_depends_on_the_run(root: str) -> None:
    ids = [trace_id_of(root, run) for run in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    assert all(len(one) == 32 and set(one) <= set(HEX) for one in ids)


def test_derived_ids_do_not_change_between_releases() -> None:
    assert trace_id_of("order-7", 42) == "def3918425eacc6d1ca286d02dac9aa6"
    assert span_id_of("attempt", "order-7", 42, 1) == "55f3d4c85d5e9dce"
    assert continued_trace_id(TRACE, "order-7", 1) == "ca67d5d90fff8acd9affe183a8f27318"


def test_each_period_of_each_root_has_a_trace_of_its_own_and_the_first_one_is_that_of_the_task() -> None:
    ids = [continued_trace_id(trace, root, period) for trace in (TRACE, TRACE[::-1]) for root in "ab" for period in (0, 1, 11)]
    assert ids[:4:3] == [TRACE, TRACE]
    assert len(set(ids)) == 10
    assert all(len(one) == 32 and set(one) <= set(HEX) for one in ids)


def test_every_span_has_an_id_of_its_own() -> None:
    ids = [
        span_id_of(kind, task, run, number)
        for kind in ("task", "submit", "wait", "queue", "dispatch", "attempt", "run")
        for task in ("order-7", "1/order-7", "7")
        for run in (1, 11)
        for number in (0, 1, 11)
    ]
    assert len(set(ids)) == len(ids)


@given(st.text(HEX, min_size=32, max_size=32), st.text(HEX, min_size=16, max_size=16), st.text(HEX, min_size=2, max_size=2))
def test_a_trace_context_is_read_as_it_is_written(trace: str, span: str, flags: str) -> None:
    found = parse_traceparent(traceparent_text(trace, span, flags))
    valid = set(trace) != {"0"} and set(span) != {"0"}
    assert found == (TraceContext(trace, span, flags) if valid else None)


@pytest.mark.parametrize("text", [None, "", f"00-{TRACE}-{SPAN}", f"01-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01\n"])
def test_an_invalid_trace_context_is_none(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_task_continues_the_context_of_its_submission() -> None:
    assert trace_context("t", None, 1, f"00-{TRACE}-{SPAN}-03") == TraceContext(TRACE, SPAN, "03")
    assert trace_context("t", None, 1, f"00-{TRACE}-{SPAN}-03").sampled
    assert not trace_context("t", None, 1, f"00-{TRACE}-{SPAN}-02").sampled


def test_a_step_without_a_context_is_below_the_first_span_of_its_root() -> None:
    root, step = trace_context("order-7", "order-7", 5, None), trace_context("step", "order-7", 5, None)
    assert (root.parent, step.parent) == (None, span_id_of("task", "order-7", 5))
    assert root.trace == step.trace == trace_id_of("order-7", 5)
    assert root.sampled
    assert step.sampled


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_a_sample_has_its_share_also_of_ids_that_follow_each_other(ratio: float) -> None:
    traces = [f"0190b6f012b57ae88f67{number:012x}" for number in range(2000)]
    chosen = sum(is_in_sample(trace, ratio) for trace in traces)
    assert chosen == pytest.approx(2000 * ratio, abs=100 if 0 < ratio < 1 else 0)
    assert all(is_in_sample(trace, 1.0) for trace in traces if is_in_sample(trace, ratio))
