"""No reporter can tell a live run from its log: after a trip through the codec each ends up the same."""

from __future__ import annotations

import io
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.events import AgentEvent, ContentDelta
from agentkit_loop.state import LoopState
from agentkit_reporting import (
    JsonlReporter,
    StdoutReporter,
    TranscriptReporter,
    UsageReporter,
    decode_event,
    encode_event,
    read_events,
)
from tests.loop.scripts import Script, run_async, run_sync, scripts

quick = settings(deadline=None, max_examples=60)


class Watchers:
    """Every reporter, told the same."""

    def __init__(self) -> None:
        self.log = io.BytesIO()
        self.page = io.StringIO()
        self.usage = UsageReporter()
        self.transcript = TranscriptReporter()
        self.jsonl = JsonlReporter(self.log)
        self.stdout = StdoutReporter(self.page, colour=False, width=80, verbose=True)

    @property
    def observers(self) -> tuple[UsageReporter | TranscriptReporter | JsonlReporter | StdoutReporter, ...]:
        return (self.usage, self.transcript, self.jsonl, self.stdout)

    def told(self, events: Iterable[AgentEvent]) -> Watchers:
        for event in events:
            for observer in self.observers:
                told = event.delta if isinstance(event, ContentDelta) else event
                if not observer.wants or isinstance(told, observer.wants):
                    observer.handle_event(event)
        return self

    def assert_equal(self, other: Watchers) -> None:
        assert self.usage == other.usage
        assert self.transcript == other.transcript
        assert self.page.getvalue() == other.page.getvalue()
        assert self.log.getvalue() == other.log.getvalue()


@given(script=scripts)
@quick
def test_every_reporter_is_equal_live_and_replayed(script: Script) -> None:
    live = Watchers()
    outcome = run_sync(script, *live.observers)
    replayed = Watchers().told(decode_event(encode_event(event)) for event in outcome.events)
    live.assert_equal(replayed)
    from_log = Watchers().told(read_events(io.BytesIO(live.log.getvalue())))
    live.assert_equal(from_log)


@given(script=scripts)
@quick
def test_the_state_and_the_transcript_are_equal_live_and_replayed(script: Script) -> None:
    outcome = run_async(script)
    state, transcript = LoopState(), TranscriptReporter()
    for event in outcome.events:
        decoded = decode_event(encode_event(event))
        assert decoded == event
        state.apply(decoded)
        transcript.handle_event(decoded)
    assert state.transcript.items == outcome.items
    assert transcript.of("session") == state.transcript


@given(script=scripts, cut=st.integers(0, 200))
@quick
def test_folding_in_two_parts_is_folding_at_once(script: Script, cut: int) -> None:
    events = run_sync(script).events
    Watchers().told(events).assert_equal(Watchers().told(events[:cut]).told(events[cut:]))


@given(script=scripts)
@quick
def test_a_log_without_previews_gives_the_same_transcript_and_usage(script: Script) -> None:
    log = io.BytesIO()
    live = Watchers()
    run_sync(script, *live.observers, JsonlReporter(log, deltas="none"))
    replayed = Watchers().told(read_events(io.BytesIO(log.getvalue())))
    assert replayed.transcript == live.transcript
    assert replayed.usage == live.usage
