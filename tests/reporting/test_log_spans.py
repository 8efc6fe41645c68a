"""The spans of a log as they are exported: in any order of files, remote parents, the state of a trace, batches."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import attrs
import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.events import AgentEvent, RunStarted
from agentkit_loop.testing import EventRecorder, ScriptedModel
from agentkit_reporting import decode_event
from agentkit_reporting.tracing.log_spans import BATCH_BYTES, BATCH_SPANS, LogSpan, batches_of, spans_of
from agentkit_reporting.tracing.otlp_json import otlp_line
from tests.cli.sample_logs import write_fixed
from tests.reporting.span_samples import exported, family, orders, span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def told(events: list[AgentEvent]) -> dict[int, tuple[object, ...]]:
    """Return what is exported, by the spans' ids."""
    found: dict[int, tuple[object, ...]] = {}
    for each in spans_of(events):
        one = each.span
        assert one.span_id not in found
        found[one.span_id] = (
            each.is_parent_remote,
            each.trace_state,
            one.name,
            one.trace_id,
            one.parent_id,
            one.start_ns,
            one.end_ns,
            one.attributes,
            one.events,
            one.error,
        )
    return found


def with_parent(**metadata: str) -> list[AgentEvent]:
    recorder = EventRecorder()
    with Agent(ScriptedModel(["hello"]), observers=[recorder]) as agent:
        agent.run("hi")
    return [
        attrs.evolve(event, metadata=metadata) if isinstance(event, RunStarted) else event
        for event in recorder.events
    ]


def test_the_order_of_files_changes_nothing() -> None:
    as_they_came, *others = (told(events) for events in orders(family()))
    assert len(as_they_came) == 12  # the boss, two requests and three calls; three agents with a request each
    assert len({trace for _, _, _, trace, *_ in as_they_came.values()}) == 1
    assert others == [as_they_came, as_they_came]


def test_a_call_of_the_agent_above_is_no_remote_parent_and_the_hosts_span_is_one() -> None:
    assert not any(each.is_parent_remote for events in orders(family()) for each in spans_of(events))
    *children, run = spans_of(with_parent(traceparent=PARENT))
    assert (run.is_parent_remote, f"{run.span.trace_id:x}") == (True, "af7651916cd43dd8448eb211c80319c")
    assert children
    assert not any(each.is_parent_remote for each in children)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("vendor=1", "vendor=1"),
        (" a=1 ,,\tb@c=2 x", "a=1,b@c=2 x"),
        ("a=1,a=2", ""),
        ("no member", ""),
        ("a=1,\n", ""),
        (",".join(f"k{number}=1" for number in range(33)), ""),
    ],
    ids=["one", "blanks", "double", "no-member", "control", "too-many"],
)
def test_the_state_of_the_trace_goes_to_all_spans_and_an_invalid_one_to_none(
    state: str, expected: str
) -> None:
    spans = list(spans_of(with_parent(traceparent=PARENT, tracestate=state)))
    assert [each.trace_state for each in spans] == [expected] * len(spans)


def test_a_log_that_ends_in_the_middle_gives_every_span_that_had_begun() -> None:
    events = family()
    whole = set(told(events))
    for end in range(1, len(events), 7):
        assert set(told(events[:end])) <= whole


def test_batches_keep_the_order_and_are_bounded_in_spans_and_in_bytes() -> None:
    many: list[LogSpan] = exported(*(span(number=number) for number in range(1, 2 * BATCH_SPANS + 2)))
    batches = list(batches_of(many))
    assert [len(batch) for batch in batches] == [BATCH_SPANS, BATCH_SPANS, 1]
    assert list(itertools.chain.from_iterable(batches)) == many
    large = exported(
        *(span(number=number, attributes={"text": "x" * (BATCH_BYTES // 3)}) for number in range(1, 6))
    )
    assert [len(batch) for batch in batches_of(large)] == [2, 2, 1]
    assert list(batches_of([])) == []
    assert [len(batch) for batch in batches_of(exported(span(name="x" * 2 * BATCH_BYTES)))] == [1]


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    write_fixed(tmp_path / "one.jsonl")
    written = (tmp_path / "one.jsonl").read_text(encoding="utf-8").splitlines()
    log = [line for line in written if '"type":"content_delta"' not in line]

    def peak(count: int) -> int:
        lines = (line.replace("fix-1", f"fix-{number}") for number in range(count) for line in log)
        tracemalloc.start()
        spans = spans_of(decode_event(line.encode()) for line in lines)
        assert sum(len(otlp_line(batch, {})) > 0 for batch in batches_of(spans)) == -(
            -9 * count // BATCH_SPANS
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(120) < 1.3 * peak(60)  # 60 are more than a batch
