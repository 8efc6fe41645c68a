"""What people see of a run. `python -m tests.reporting.test_stdout` writes the golden files anew."""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from agentkit_loop.content import (
    Item,
)
from agentkit_loop.events import (
    EVENT_TYPES,
    AgentEvent,
    InputAccepted,
    ModelRequestFinished,
    ModelRequestStarted,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnFinished,
    TurnStarted,
    UnknownEvent,
    UsageUpdated,
)
from agentkit_loop.usage import Usage
from agentkit_reporting.codec import decode_event, encode_event
from agentkit_reporting.stdout import AnyEvent, StdoutReporter
from tests.reporting.written_sessions import (
    MODEL,
    SCRIPTS,
    Script,
    hostile,
    parallel_tools,
    printed,
    retries,
    two_turns,
)

GOLDEN = Path(__file__).parent.parent / "golden"


def goldens() -> Iterator[tuple[str, str]]:
    for script in SCRIPTS:
        yield f"stdout_{script.__name__}.txt", printed(script)
    yield "stdout_two_turns_colour.txt", printed(two_turns, colour=True)
    yield "stdout_retries_colour.txt", printed(retries, colour=True)
    yield "stdout_two_turns_verbose.txt", printed(two_turns, verbose=True)


@pytest.mark.parametrize(("name", "text"), [pytest.param(*golden, id=golden[0]) for golden in goldens()])
def test_a_run_looks_as_it_was_designed(name: str, text: str) -> None:
    wanted = (GOLDEN / name).read_bytes().decode()
    assert text == wanted, "\n".join(difflib.unified_diff(wanted.split("\n"), text.split("\n"), lineterm=""))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_log_prints_what_the_run_printed(script: Callable[..., None]) -> None:
    events: list[AgentEvent] = []
    script(events.append)
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False, width=80)
    for event in events:
        reporter.handle_event(decode_event(encode_event(event)))
    reporter.close()
    assert stream.getvalue() == printed(script)


def test_every_event_class_is_one_that_the_reporter_has_to_deal_with() -> None:
    assert set(get_args(AnyEvent)) == {*EVENT_TYPES.values(), UnknownEvent}


def test_what_is_told_by_other_lines_is_silent_and_everything_else_has_a_line() -> None:
    events: list[AgentEvent] = []
    for script in SCRIPTS:
        script(events.append)
    events.append(UnknownEvent(type="weather_changed", payload={"to": "rain"}, session_id="s", seq=1))
    silent: set[type[AgentEvent]] = set()
    told: set[type[AgentEvent]] = set()
    for event in events:
        stream = io.StringIO()
        StdoutReporter(stream, colour=False).handle_event(event)
        (told if stream.getvalue() else silent).add(type(event))
    assert told | silent == {*EVENT_TYPES.values(), UnknownEvent}
    assert silent - told == {
        TurnStarted,
        ModelRequestStarted,
        ModelRequestFinished,
        UsageUpdated,
        ToolCallRequested,
    }


@pytest.mark.parametrize("script", [two_turns, parallel_tools])
@pytest.mark.parametrize("width", [50, 60, 133])
def test_arguments_results_and_input_are_cut_to_the_width(script: Callable[..., None], width: int) -> None:
    events: list[AgentEvent] = []
    script(events.append)
    shortened = (InputAccepted, ToolCallRequested, ToolExecutionStarted, ToolResultReceived)
    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False, width=width)
    for event in events:
        if isinstance(event, shortened) and not getattr(event, "is_error", False):
            reporter.handle_event(event)
    assert stream.getvalue()
    assert all(len(line) <= width for line in stream.getvalue().split("\n"))


def test_nothing_that_events_say_controls_the_terminal() -> None:
    for shown in (printed(hostile), printed(hostile, verbose=True), printed(hostile, width=20)):
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_a_suspended_call_is_recognised_after_the_resume() -> None:
    stream = io.StringIO()
    script = Script("ses_0001", StdoutReporter(stream, colour=False).handle_event)
    script.start()
    script.turn(1)
    script.request()
    script.answer("tool_call")
    script.call("call-1", "delete", path="build")
    script.tell(
        RunFinished(outcome="suspended", usage=Usage(), open_approvals=("approval-1",)),
        RunStarted(agent_name="fixer", model=MODEL, resumed_run="run-1", resumed_after=9),
        ToolExecutionStarted(call_id="call-1", name="delete"),
    )
    script.finish()
    assert "goes on from run-1" in stream.getvalue()
    assert '▸ delete(path="build")' in stream.getvalue()
    assert "$0.0049" in stream.getvalue()


def test_cost_comes_from_the_reports_and_unknown_is_not_zero() -> None:
    stream = io.StringIO()
    script = Script("s", StdoutReporter(stream, colour=False).handle_event)
    script.turn(1)
    script.requests = 1
    script.spend(Usage(), None, final=True)
    script.tell(TurnFinished(finish_reason="completed", usage=Usage(), item_count=2))
    assert stream.getvalue() == "✓ completed · 1 turn · tokens unknown · cost unknown\n"


def test_summaries_look_at_the_beginning_of_huge_values_only() -> None:
    class Watched(list[int]):
        seen = 0

        def __iter__(self) -> Iterator[int]:
            for value in super().__iter__():
                Watched.seen += 1
                yield value

    stream = io.StringIO()
    reporter = StdoutReporter(stream, colour=False)
    huge = Watched(range(1_000_000))
    reporter.handle_event(ToolResultReceived(call_id="c", name="t", output=huge, duration_ms=1.0))
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    reporter.handle_event(ToolResultReceived(call_id="d", name="t", output=deep, duration_ms=1.0))
    reporter.handle_event(InputAccepted(items=(Item.user("word " * 2_000_000),)))
    assert Watched.seen < 100
    assert max(len(line) for line in stream.getvalue().split("\n")) <= 80


if __name__ == "__main__":
    for file_name, content in goldens():
        (GOLDEN / file_name).write_bytes(content.encode())
