"""BEHAVIOUR 21: other tools between turns; told once, before the next request, and only where they differ."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    ModelRequestStarted,
    ToolCatalogChanged,
    ToolExecutionStarted,
    ToolResultReceived,
    TurnStarted,
)
from agentkit_loop.steps import AfterToolResult
from agentkit_loop.tools import tool
from tests.loop.hosts import Opened, Run, asking, both, call


def look(path: str = ".") -> str:
    """Look at a file."""
    return f"saw {path}"


def write(path: str = ".") -> str:
    """Write a file."""
    return f"wrote {path}"


def ask(question: str) -> str:
    """Ask somebody."""
    return question


def names(run: Run, request: int) -> list[str]:
    return [spec.name for spec in run.model.requests[request].tools]


@both
def test_a_change_is_told_once_before_the_next_request(opened: Opened) -> None:
    run = Run(["one", asking(call("write")), "two"], tools=[look])
    with opened(run) as host:
        host.run("a")
        host.set_tools([look, write])
        assert run.of(ToolCatalogChanged) == []
        assert host.run("b").text == "two"
    (changed,) = run.of(ToolCatalogChanged)
    assert [spec.name for spec in changed.added] == ["write"]
    assert (changed.removed, changed.changed) == ((), ())
    assert run.told(TurnStarted, ToolCatalogChanged, ModelRequestStarted) == [
        "turn_started",
        "model_request_started",
        "turn_started",
        "tool_catalog_changed",
        "model_request_started",
        "turn_started",
        "model_request_started",
    ]
    assert [names(run, number) for number in range(3)] == [["look"], ["look", "write"], ["look", "write"]]
    assert run.of(ToolResultReceived)[0].output == "wrote ."
    assert run.faults == []


@both
def test_added_removed_and_changed_are_told_apart(opened: Opened) -> None:
    run = Run(["one", "two"], tools=[look, write])
    described = tool(description="Look closely.")(look)
    with opened(run) as host:
        host.run("a")
        host.set_tools([ask, described])
        host.run("b")
        assert list(host.state.tools) == ["look", "ask"]
    (changed,) = run.of(ToolCatalogChanged)
    assert [spec.name for spec in changed.added] == ["ask"]
    assert changed.removed == ("write",)
    assert [spec.description for spec in changed.changed] == ["Look closely."]
    assert names(run, 1) == ["look", "ask"]
    assert run.faults == []


@both
@pytest.mark.parametrize("again", [[look, write], [write, look]])
def test_the_same_tools_are_no_change_in_whatever_order(opened: Opened, again: list[Any]) -> None:
    run = Run(["one", "two"], tools=[look, write])
    with opened(run) as host:
        host.run("a")
        host.set_tools(again)
        host.run("b")
    assert run.of(ToolCatalogChanged) == []
    first, second = run.of(ModelRequestStarted)
    assert names(run, 0) == names(run, 1) == ["look", "write"]
    assert first.digests["tools"] == second.digests["tools"]
    assert run.faults == []


@both
def test_what_is_changed_back_before_the_request_was_never_changed(opened: Opened) -> None:
    run = Run(["one"], tools=[look])
    with opened(run) as host:
        host.set_tools([write])
        host.set_tools([look])
        host.run("a")
    assert run.of(ToolCatalogChanged) == []
    assert run.faults == []


@both
def test_a_function_may_change_where_the_model_sees_no_difference(opened: Opened) -> None:
    run = Run(["one", asking(call("look")), "two"], tools=[look])
    with opened(run) as host:
        host.run("a")
        host.set_tools([tool(name="look", description="Look at a file.")(lambda path=".": f"other {path}")])
        host.run("b")
    assert [event.output for event in run.of(ToolResultReceived)] == ["other ."]


@both
def test_between_rounds_the_next_request_of_the_exchange_has_the_new_tools(opened: Opened) -> None:
    run = Run([asking(call("look")), asking(call("write"), call("look")), "done"], tools=[look])
    with opened(run, "go") as host:
        assert isinstance(host.next(), AfterToolResult)
        host.set_tools([write])
        assert host.finish().text == "done"
    outputs = [event.output for event in run.of(ToolResultReceived)]
    assert outputs[1] == "wrote ." or outputs[2] == "wrote ."
    assert any("no tool named 'look'; the tools are: write" in output for output in outputs)
    assert [event.name for event in run.of(ToolExecutionStarted)] == ["look", "write"]
    assert run.faults == []


@both
def test_while_calls_wait_the_round_keeps_its_tools(opened: Opened) -> None:
    gated = tool(write, approval=True)
    run = Run([asking(call("write")), "done"], tools=[gated])
    with opened(run, "go") as host:
        host.next()
        host.set_tools([look])
        host.pending[0].approve(edited_input={"path": "b"})
        assert host.finish().text == "done"
    assert run.of(ToolResultReceived)[0].output == "wrote b"
    assert names(run, 1) == ["look"]
    assert run.faults == []


@both
def test_an_observer_may_change_the_tools(opened: Opened) -> None:
    run = Run([asking(call("look")), "done"], tools=[look])
    with opened(run) as host:
        host.add_observer(lambda event: host.set_tools([]) if isinstance(event, ToolResultReceived) else None)
        host.run("go")
    assert run.of(ToolCatalogChanged)[0].removed == ("look",)
    assert names(run, 1) == []
    assert run.faults == []


@both
def test_wrong_tools_and_a_closed_run_are_refused(opened: Opened) -> None:
    run = Run(["one"], tools=[look])
    with opened(run) as host:
        for wrong in ([look, tool(name="look")(write)], [3], [[look]]):
            with pytest.raises(ConfigurationError):
                host.set_tools(wrong)
        host.run("a")
        assert names(run, 0) == ["look"]
    with pytest.raises(IllegalMoveError, match="closed; start a new run"):
        host.set_tools([])
    assert run.faults == []


@both
def test_a_resume_tells_the_tools_that_it_has_and_changes_count_from_there(opened: Opened) -> None:
    run = Run(["one", "two", "three"], tools=[look])
    with opened(run) as host:
        host.run("a")
        host.set_tools([look, write])
        host.run("b")
    resume = run.agent.resume if opened.__name__ == "sync_host" else run.agent.aresume
    events = list(run.recorder.events)
    with opened(run, make=lambda: resume(events)) as host:
        host.set_tools([write])
        host.run("c")
    changed = run.of(ToolCatalogChanged)[1]
    assert ([spec.name for spec in changed.added], changed.removed) == (["write"], ("look",))
    assert run.faults == []
