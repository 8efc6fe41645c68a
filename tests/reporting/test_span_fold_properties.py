"""Whatever a run tells, its spans are a tree that is whole, counts each token once, and is the same each time."""

from __future__ import annotations

import itertools
import random
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from agentkit_loop.events import AgentEvent, ModelRequestFinished, ModelRequestStarted, RunStarted
from agentkit_loop.observers import LoopObserver
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.tracing.fold import SPAN_EVENTS, SpanFold
from agentkit_reporting.tracing.fold_moments import MOST_EVENTS
from agentkit_reporting.tracing.spans import Span
from tests.loop.crash_checks import go_on
from tests.loop.crash_runs import SCENARIOS, recorded
from tests.loop.scripts import Script, run_async, run_sync, scripts
from tests.loop.test_scopes_random import told_by
from tests.reporting.folded_spans import assert_counts, assert_tree, folded, record, records
from tests.strategies import event_lists

quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def assert_whole(events: list[AgentEvent]) -> list[Span]:
    spans = folded(events)
    assert_tree(spans)
    assert_counts(spans, events)
    runs = [event for event in events if isinstance(event, RunStarted)]
    assert sum(span.operation == "invoke_agent" for span in spans) == len(runs)
    return spans


def assert_sound(events: list[AgentEvent]) -> None:
    spans = assert_whole(events)
    logged = [decode_event(encode_event(event)) for event in events]
    assert records(folded(logged)) == records(spans)
    asked_for = [event for event in logged if isinstance(event, SPAN_EVENTS)]
    assert records(folded(asked_for)) == records(spans)


class Watching(LoopObserver):
    """Folds while the run goes on."""

    wants = SPAN_EVENTS

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.fold = SpanFold()

    def handle_event(self, event: AgentEvent) -> None:
        self.spans += self.fold.take(event)


@given(script=scripts, on_loop=st.booleans())
@quick
def test_any_run_becomes_a_tree_that_counts_each_token_once_watched_or_read(
    script: Script, on_loop: bool
) -> None:
    watching = Watching()
    events = (run_async if on_loop else run_sync)(script, watching).events
    assert_sound(events)
    spans = [*watching.spans, *watching.fold.close()]
    assert [record(span) for span in spans] == [record(span) for span in folded(events)]


@given(script=scripts)
@settings(quick, max_examples=10)
def test_a_run_on_an_event_loop_gives_the_same_spans(script: Script) -> None:
    told, also_told = run_sync(script).events, run_async(script).events
    shape = [(span.operation, span.name, span.error) for span in folded(told)]
    assert shape == [(span.operation, span.name, span.error) for span in folded(also_told)]


@given(data=st.data())
@quick
def test_any_hand_written_loop_becomes_a_tree_that_counts_each_token_once(data: st.DataObject) -> None:
    assert_sound(told_by(data)[0])


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_path_of_the_loop_becomes_a_tree_that_counts_each_token_once(name: str) -> None:
    assert_sound(recorded(name))


@pytest.mark.parametrize("name", ["tools", "pending", "compacted", "retries", "cut stream"])
def test_what_a_crash_left_anywhere_is_ended_by_the_resume_and_nothing_twice(name: str) -> None:
    events = recorded(name)
    for length in range(1, len(events) + 1, 3):
        prefix = events[:length]
        begun = assert_whole(prefix)  # a log that ends in the middle
        spans = assert_whole(go_on(prefix).events)
        assert {span.span_id for span in begun} <= {span.span_id for span in spans}


@given(script=scripts, order=st.randoms(use_true_random=False))
@settings(quick, max_examples=15)
def test_it_does_not_matter_how_sessions_lie_between_each_other(script: Script, order: random.Random) -> None:
    one = run_sync(script).events
    other = [attrs.evolve(event, session_id="other") for event in one]
    places = [0] * len(one) + [1] * len(other)
    order.shuffle(places)
    left = [iter(one), iter(other)]
    mixed = [next(left[place]) for place in places]
    assert records(folded(mixed)) == records(folded(one)) | records(folded(other))


@given(events=event_lists(max_size=30))
@quick
def test_no_sequence_of_events_is_too_strange(events: list[AgentEvent]) -> None:
    spans = folded(events)
    for span in spans:
        assert 0 <= span.start_ns <= span.end_ns < 2**63
        assert all(span.start_ns <= each.ns <= span.end_ns for each in span.events)
        assert len(span.events) <= MOST_EVENTS
        values = itertools.chain(
            span.attributes.values(), *(each.attributes.values() for each in span.events)
        )
        assert all(is_attribute(value) for value in values)
    assert records(folded(events)) == records(spans)


def is_attribute(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(each, str) for each in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, (str, float))


def test_children_come_before_their_parents() -> None:
    for name in ("tools", "pending", "failed"):
        ended: set[int] = set()
        for span in folded(recorded(name)):
            assert span.parent is None or span.parent.span_id not in ended
            ended.add(span.span_id)


def test_the_requests_of_a_run_are_found_while_they_are_open() -> None:
    fold = SpanFold()
    for event in recorded("tools"):
        fold.take(event)
        if isinstance(event, (ModelRequestStarted, ModelRequestFinished)):
            span = fold.span_of_request(event.session_id, event.run_id, event.request_id)
            assert (span is not None) == isinstance(event, ModelRequestStarted)
    assert fold.span_of_request("session", "no such run", "no such request") is None
