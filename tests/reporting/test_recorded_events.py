"""RecordedEvents: what a test asks of a run, what it asserts, and what a failure says."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.content import CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    InputAccepted,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnStarted,
    UsageUpdated,
)
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.scopes import RunScope
from agentkit_loop.testing import Reply
from agentkit_reporting import JsonlReporter, read_events
from agentkit_reporting.testing.expected import matching
from agentkit_reporting.testing.recorded_events import RecordedEvents
from tests.reporting.paying_agent import paying, recorded

HOSTILE = "\x1b[2J\u202egnp.exe"


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def test_a_recording_is_a_sequence_of_the_events() -> None:
    events = recorded()
    assert len(events) == len(list(events)) == events[-1].seq
    assert [type(event) for event in events[:2]] == [RunStarted, InputAccepted]
    assert events.types[-1] == "run_finished"
    assert events == RecordedEvents.of(list(events))
    assert events != RecordedEvents()
    assert repr(events) == f"<RecordedEvents: {len(events)} events, 1 run completed, 1 tool call>"


def test_a_recording_of_a_log_equals_the_live_one(tmp_path: Path) -> None:
    events = RecordedEvents()
    again = recorded(observers=[events, JsonlReporter(tmp_path / "run.jsonl", redact=False)])
    del again
    assert RecordedEvents.of(read_events(tmp_path / "run.jsonl")) == events


def test_a_hand_written_loop_tells_a_recording() -> None:
    events = RecordedEvents()
    emitter = EventEmitter(observers=[events])
    with emitter.run(agent_name="mine", model="m") as run:
        assert isinstance(run, RunScope)
    assert events.types == ["run_started", "run_finished"]
    assert events.runs[0].outcome == "completed"


def test_events_are_found_by_class_wire_name_fields_and_predicate() -> None:
    events = recorded()
    assert events.of_type(ToolCallRequested) == events.of_type("tool_call_requested")
    assert events.of_type(matching(ToolCallRequested, name="pay")) == events.of_type(ToolCallRequested)
    assert events.of_type(lambda event: event.call.name == "pay") == events.of_type(ToolCallRequested)
    assert [
        event.delta.part for event in events.of_type(matching(CommitPart, part=TextPart(text="Done.")))
    ] == [TextPart(text="Done.")]
    assert len(events.of_type(TurnStarted, RunStarted)) == 3


def test_calls_are_joined_with_their_results() -> None:
    (call,) = recorded().tool_calls
    assert (call.name, call.input, call.output) == ("pay", {"amount": 3, "to": "bob"}, "paid 3 to bob")
    assert (call.attempts, call.edited, call.denied, call.is_error) == (1, False, False, False)


def test_a_call_has_the_input_that_a_person_changed() -> None:
    events = RecordedEvents()
    asked = recorded().of_type(ToolCallRequested)[0]
    events.handle_event(asked)
    events.handle_event(
        ToolExecutionStarted(
            session_id=asked.session_id, call_id=asked.call.id, name="pay", edited=True, input={"amount": 1}
        )
    )
    assert (events.tool_calls[0].input, events.tool_calls[0].edited) == ({"amount": 1}, True)
    assert events.tool_calls[0].output is None


def test_text_usage_and_cost_are_those_of_the_run() -> None:
    prices = PriceTable({"scripted": Rates(input=Decimal(1_000), output=Decimal(1_000))}, source="samples")
    events = recorded(prices=prices)
    assert events.text == "Done."
    assert (events.usage.input_tokens, events.usage.output_tokens) == (60, 24)
    assert events.cost == Decimal("0.084")
    assert recorded().cost is None
    assert RecordedEvents().text == ""


def test_a_part_of_a_recording_is_one_too() -> None:
    events = recorded()
    first = events[0]
    assert events.of_session(first.session_id) == events == events.of_run(first.run_id)
    assert len(events.of_session("another")) == 0
    events[2:].assert_never(RunStarted)


def test_a_run_is_shown_as_agentkit_show_does_and_bounded() -> None:
    shown = recorded(paying(to=HOSTILE)).show()
    assert 'pay(amount=3, to="' in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    long = recorded([Reply(text="line\n" * 5_000 + "x" * 100_000)]).show()
    assert "lines …" in long
    assert len(long) < 20_000


def test_a_sequence_with_gaps_is_followed() -> None:
    events = recorded()
    events.assert_sequence(
        RunStarted, InputAccepted, ..., ToolCallRequested, ToolExecutionStarted, ..., RunFinished
    )
    events.assert_sequence("run_started", ..., lambda event: event.turn_id == "turn-2", ...)
    events.assert_sequence(..., matching(ToolResultReceived, output=re.compile("paid 3")), TurnStarted, ...)
    events.assert_sequence(...)
    RecordedEvents().assert_sequence()


def test_deltas_and_usage_are_passed_over_unless_they_are_named() -> None:
    events = recorded()
    events.assert_sequence(..., "model_request_started", "model_request_finished", ...)
    events.assert_sequence(
        ..., "model_request_started", UsageUpdated, UsageUpdated, "model_request_finished", ...
    )
    events.assert_sequence(..., matching(CommitPart, part_id="0"), ...)
    refusal(events.assert_sequence, ..., "model_request_started", "model_request_finished", ..., ignore=())


def test_a_failed_sequence_says_where_and_shows_the_nearest() -> None:
    text = refusal(
        recorded().assert_sequence,
        ...,
        matching(ToolCallRequested, name="pay", input={"amount": 4, "to": "bob"}),
        ...,
    )
    assert "place 2: no event is ToolCallRequested(name='pay', input={'amount': 4, 'to': 'bob'})" in text
    assert "input.amount: expected 4, was 3" in text
    assert "> #" in text
    assert "without ContentDelta and UsageUpdated" in text


def test_a_failed_neighbour_says_what_came_instead() -> None:
    text = refusal(recorded().assert_sequence, ..., ToolCallRequested, ToolResultReceived, ...)
    assert "place 3: expected ToolResultReceived, came #" in text
    assert "ToolExecutionStarted" in text.splitlines()[1]


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ((ToolCallRequested, ...), "begin with ... to let anything come before"),
        ((RunStarted,), "more came; end with ... to let anything follow"),
        ((..., ToolCallRequested), "as the last event, came"),
        ((..., RunFinished, RunFinished), "as the event 2 from the end, came"),
        ((RunStarted, ..., "auth_required", ...), "from #2 on is AuthRequired"),
    ],
    ids=["begin", "end", "last", "too-few", "absent"],
)
def test_a_failed_sequence_says_what_to_do(expected: tuple[Any, ...], said: str) -> None:
    assert said in refusal(recorded().assert_sequence, *expected)


def test_a_failure_is_bounded_and_harmless() -> None:
    events = recorded(paying(to=HOSTILE + "y" * 1_000_000))
    for text in (
        refusal(
            events.assert_sequence, ..., matching(ToolCallRequested, input={"amount": 3, "to": "z"}), ...
        ),
        refusal(events.assert_never, ToolCallRequested),
        refusal(events.assert_count, ToolCallRequested, 7),
        refusal(events.assert_tool_called, "pay", to="z" * 1_000_000),
        refusal(events.assert_sequence, *[RunStarted] * 1_000),
    ):
        assert len(text) < 6_000
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_secret_is_in_no_text_of_a_failure() -> None:
    key = "sk-ant-api03-" + "a1B2c3D4e5" * 8
    events = recorded(paying(to=key))
    expected = matching(ToolCallRequested, input={"amount": 4, "to": key})
    for text in (
        refusal(events.assert_sequence, ..., expected, ...),
        refusal(events.assert_never, ToolCallRequested),
        refusal(events.assert_tool_called, "pay", amount=4),
        events.show(),
    ):
        assert key[:24] not in text
        assert "[redacted" in text


def test_what_never_should_come_is_shown_among_its_neighbours() -> None:
    events = recorded()
    events.assert_never("run_failed", lambda event: event.seq > 1_000)
    text = refusal(events.assert_never, ToolCallRequested)
    assert text.startswith("expected no ToolCallRequested, came #")
    assert "AppendText" not in text


def test_counts_are_asserted() -> None:
    events = recorded()
    events.assert_count(TurnStarted, 2)
    assert refusal(events.assert_count, TurnStarted, 1).startswith("expected 1 event TurnStarted, came 2")
    text = refusal(events.assert_count, matching(ToolResultReceived, is_error=True), 1)
    assert "is_error: expected True, was False" in text


def test_a_call_is_asserted_by_the_arguments_that_matter() -> None:
    events = recorded()
    assert events.assert_tool_called("pay", amount=3).output == "paid 3 to bob"
    events.assert_tool_called("pay", amount=lambda amount: amount < 10, to=str)
    text = refusal(events.assert_tool_called, "pay", amount=4, note="x")
    assert "amount: expected 4, was 3" in text
    assert "note: expected 'x', was not there" in text
    assert "no tool was called" in refusal(RecordedEvents().assert_tool_called, "pay")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: matching("tool_call_request"), "did you mean 'tool_call_requested'?"),
        (lambda: matching(ToolCallRequested, nam="pay"), "did you mean 'name'?"),
        (lambda: matching(int), "is no class of events"),  # type: ignore[arg-type] # the point
        (lambda: recorded().assert_sequence(3), "expects nothing of an event"),  # type: ignore[arg-type] # the point
        (lambda: recorded().of_type(int), "is no class of events"),
        (lambda: recorded().assert_golden("x"), "use the fixture agent_events"),
    ],
    ids=["wire-name", "field", "class", "number", "other-class", "golden"],
)
def test_an_expectation_that_no_event_could_fit_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make()


def test_what_a_predicate_raises_is_its_authors() -> None:
    def broken(event: AgentEvent) -> bool:
        raise ValueError(event.type)

    with pytest.raises(ValueError, match="run_started"):
        recorded().of_type(broken)


def test_a_predicate_with_an_attribute_that_no_event_has_is_no_assertion_that_holds() -> None:
    events = recorded()
    events.assert_never(lambda event: event.denied)
    events.assert_never(lambda event: event.delta.part.text.startswith("no such text"))
    for misspelt in (lambda event: event.nmae == "pay", lambda event: event.call.nmae == "pay"):
        with pytest.raises(AttributeError, match="nmae"):
            events.assert_never(misspelt)


def test_true_is_no_number() -> None:
    events = recorded(paying(amount=1))
    events.assert_tool_called("pay", amount=1.0)
    assert "amount: expected True, was 1" in refusal(events.assert_tool_called, "pay", amount=True)
    events.assert_count(matching(ToolResultReceived, is_error=False), 1)
    events.assert_count(matching(ToolResultReceived, is_error=0), 0)


def test_fields_of_records_and_of_the_header_are_compared() -> None:
    events = recorded()
    assert len(events.of_type(matching(UsageUpdated, usage={"output_tokens": 12}, final=True))) == 2
    assert len(events.of_type(matching("tool_result_received", turn_id="turn-1", output=...))) == 1
    assert events.of_type(matching("tool_result_received", error=...)) == []
