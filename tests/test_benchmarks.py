"""What benchmarks compare does the same: sessions are those that were served, spans are equal. Nothing is timed."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks import loop, tracing
from benchmarks.references import Seen
from benchmarks.server import FRAMINGS
from benchmarks.session import make_session


def test_every_way_plays_a_small_session_rightly_in_every_framing() -> None:
    rows = loop.rows(1, turns=3, deltas=12, pause_s=0.0, requests=2)
    for framing in FRAMINGS:
        compared = [row for row in rows if row.name == f"a delta, {framing}, sync"]
        assert [row.reference for row in compared] == [loop.BARE, loop.OWN]
    assert {row.name for row in rows if row.paired is None} == {
        "first delta to observer, sync",
        "first delta to observer, async",
    }
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)


@pytest.mark.parametrize("wrong", ["inputs", "text", "deltas"])
def test_a_session_that_was_played_wrongly_does_not_count(wrong: str) -> None:
    session = make_session(3, 12)
    right = Seen(list(session.inputs), session.text, session.deltas)
    right.check(session, "a way")
    changed = {"inputs": list(session.inputs[:1]), "text": session.text[:-1], "deltas": session.deltas - 1}
    setattr(right, wrong, changed[wrong])
    with pytest.raises(AssertionError, match="a way: saw"):
        right.check(session, "a way")


def test_a_session_is_of_the_size_asked_for_and_the_same_every_time() -> None:
    session = make_session(20, 200)
    assert session == make_session(20, 200)
    assert len(session.answers) == 20
    assert len(session.inputs) == 19
    assert (
        sum(event.startswith(b"event: content_block_delta") for a in session.answers for event in a) == 4_000
    )


def test_the_spans_that_are_made_by_hand_are_those_of_the_reporter() -> None:
    events = [event for number in range(2) for event in tracing.session(number, 3)]
    told = []
    for made in (tracing.reporter, tracing.by_hand):
        exporter = InMemorySpanExporter()
        handle = made(tracing.provided(SimpleSpanProcessor(exporter)), None)
        for event in events:
            handle(event)
        told.append([facts_of(span) for span in exporter.get_finished_spans()])
    assert told[0] == told[1]
    assert len(told[0]) == 2 * (3 + 2 + 1)


def facts_of(span: ReadableSpan) -> tuple[object, ...]:
    """Return what a span tells, but its ids, and its start: by hand that is the event's."""
    parent = span.parent is not None
    return (
        span.name,
        span.kind,
        parent,
        span.end_time,
        dict(span.attributes or {}),
        span.events,
        span.status.status_code,
    )
