"""What the terminal says of exchanges that were cancelled in mid-stream, or that a resume goes on with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit_loop.content import AppendText, BeginPart
from agentkit_loop.events import BudgetExceeded, BudgetWarning, ToolExecutionStarted, ToolResultReceived
from agentkit_reporting.stdout import StdoutReporter
from tests.loop.hosts import ActingModel, Opened, Run, both, said
from tests.reporting.written_sessions import Script


class Screen:
    """A reporter and what it wrote."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.reporter = StdoutReporter(self._stream, colour=False, width=100)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def line_of(self, word: str) -> str:
        (line,) = (line for line in self.text.split("\n") if word in line)
        return line


# --- cancelled in mid-stream


@both
def test_a_text_that_a_cancel_cut_is_printed_once(opened: Opened) -> None:
    screen, drivers = Screen(), list[Any]()
    beats = [BeginPart("0", "text"), AppendText("0", "Once upon a time"), lambda: drivers[0].cancel("enough")]
    run = Run([], model=ActingModel([*beats, AppendText("0", " there was more")], said("x")))
    run.agent.observers = (*run.agent.observers, screen.reporter)
    with opened(run, "go") as host:
        drivers.append(host.driver)
        host.finish()
    assert "cancel requested" in screen.text
    assert screen.text.count("Once upon a time") == 1
    assert "the whole" not in screen.text


def cut(*later: str, whole: str) -> Iterator[Screen]:
    """Yield the screen of a part that another line broke into."""
    screen = Screen()
    script = Script("s", screen.reporter.handle_event)
    script.start()
    script.turn(1)
    script.request()
    script.begin("part-1")
    script.append("part-1", "Once upon")
    screen.reporter.close()  # completes the open line
    script.append("part-1", *later)
    script.commit("part-1", whole)
    script.answer()
    yield screen


def test_a_text_that_goes_on_after_its_line_was_completed_is_not_printed_again() -> None:
    (screen,) = cut(" a time", whole="Once upon a time")
    assert (screen.text.count("Once upon"), screen.text.count(" a time")) == (1, 1)


def test_a_text_of_which_more_came_than_was_printed_is_printed_whole() -> None:
    (screen,) = cut(whole="Once upon a time")
    assert "not all of the text above came" in screen.text
    assert "Once upon a time" in screen.text


# --- money after a resume


def second_turn(script: Script) -> None:
    """Tell the second turn of an exchange, and its end."""
    script.turn(2)
    script.request()
    script.say("part-1", "Paid.")
    script.answer()
    script.finish()
    script.end()


def first_turn(script: Script) -> None:
    script.start()
    script.turn(1)
    script.request()
    script.answer("tool_call")
    script.call("call-1", "pay")
    script.tell(
        ToolExecutionStarted(call_id="call-1", name="pay"),
        ToolResultReceived(call_id="call-1", name="pay", output=""),
    )


def test_the_cost_of_an_exchange_whose_beginning_was_not_seen_is_that_since_the_resume() -> None:
    screen = Screen()
    script = Script("s", screen.reporter.handle_event)
    second_turn(script)
    assert " · $0.0049 since the resume · " in screen.line_of("completed · 2 turns")
    script.turn(1)
    script.request()
    script.answer()
    script.finish("stop_sequence")
    assert "since" not in screen.line_of("stop sequence")


def test_the_cost_of_an_exchange_that_was_seen_from_its_beginning_is_all_of_it() -> None:
    screen = Screen()
    script = Script("s", screen.reporter.handle_event)
    first_turn(script)
    script.end()
    second_turn(script)
    assert " · $0.0098 · " in screen.line_of("completed · 2 turns")


# --- limits


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (0.35823608100326965, "0.358"),
        (12.3456, "12.3"),
        (99.96, "100"),
        (1234.56, "1235"),
        (0.00001234, "1.23e-05"),
        (3, "3"),
        ("1.60", "1.60"),
    ],
)
def test_what_was_used_of_a_limit_has_as_many_digits_as_matter(used: Any, told: str) -> None:
    screen = Screen()
    script = Script("s", screen.reporter.handle_event)
    script.tell(BudgetWarning(limit="warned", used=used, allowed=0.4))
    script.tell(BudgetExceeded(limit="ended", used=used, allowed=0.4))
    assert f"warned: {told} of 0.4 used" in screen.text
    assert f"ended used up: {told} of 0.4" in screen.text
