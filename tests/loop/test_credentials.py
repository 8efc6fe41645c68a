"""BEHAVIOUR 31: credentials are asked for, given, and told to nobody but the tool."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agentkit_loop.content import ToolResultPart
from agentkit_loop.credentials import NeedsAuth
from agentkit_loop.errors import ConfigurationError, IllegalMoveError
from agentkit_loop.events import (
    AuthRequired,
    AuthResolved,
    RunFinished,
    ToolExecutionStarted,
    ToolResultReceived,
)
from agentkit_loop.steps import AuthRequest
from agentkit_loop.tool_context import ToolContext
from agentkit_loop.tools import tool
from tests.loop.hosts import Host, Opened, Run, asking, both, call

GIVEN = 's3cret-q7w"\nü-4x2'


@tool
def fetch(context: ToolContext, page: str = "home") -> str:
    """Fetch a page that wants a login."""
    credential = context.credential("web")
    if credential is None:
        raise NeedsAuth("web", ["read", "list"], "to read your pages")
    return f"{page} of {len(credential.reveal())} in attempt {context.attempt}"


@tool
async def fetch_later(context: ToolContext, page: str = "home") -> str:
    """Fetch a page that wants a login, later."""
    credential = context.credential("web")
    if credential is None:
        raise NeedsAuth("web", ["read", "list"], "to read your pages")
    return f"{page} of {len(credential.reveal())} in attempt {context.attempt}"


either_fetch = pytest.mark.parametrize("fetching", [fetch, fetch_later], ids=["plain", "async"])


def asked(host: Host) -> AuthRequest:
    step = host.next()
    while type(step).__name__ == "AfterToolResult":
        step = host.next()
    assert isinstance(step, AuthRequest), step
    return step


ROUND = (ToolExecutionStarted, AuthRequired, AuthResolved, ToolResultReceived)


@both
@either_fetch
def test_a_tool_that_needs_credentials_runs_again_once_they_are_given(opened: Opened, fetching: Any) -> None:
    run = Run([asking(call(fetching.name)), "done"], tools=[fetching])
    with opened(run, "go") as host:
        step = asked(host)
        assert (step.provider, step.scopes, step.purpose) == ("web", ("read", "list"), "to read your pages")
        assert (step.call.name, step.session_id) == (fetching.name, "session")
        told = len(run.recorder.events)
        assert asked(host) == step
        assert host.pending == (step,)
        assert len(run.recorder.events) == told
        with pytest.raises(IllegalMoveError, match="Submit refused"):
            host.submit("meanwhile")
        step.resolve(GIVEN)
        assert host.finish().text == "done"
    assert run.told(*ROUND) == [
        "tool_execution_started",
        "auth_required",
        "auth_resolved",
        "tool_execution_started",
        "tool_result_received",
    ]
    assert [event.attempt for event in run.of(ToolExecutionStarted)] == [1, 2]
    assert [event.outcome for event in run.of(AuthResolved)] == ["resolved"]
    assert run.of(ToolResultReceived)[0].output == f"home of {len(GIVEN)} in attempt 2"
    assert run.faults == []


@both
def test_without_credentials_the_call_gets_an_error_result(opened: Opened) -> None:
    run = Run([asking(call("fetch")), "a pity"], tools=[fetch])
    with opened(run, "go") as host:
        asked(host).cancel()
        assert host.finish().text == "a pity"
    (result,) = run.of(ToolResultReceived)
    assert (result.is_error, result.not_started, result.denied) == (True, False, False)
    assert "credentials" in result.output
    assert [event.outcome for event in run.of(AuthResolved)] == ["cancelled"]
    assert len(run.of(ToolExecutionStarted)) == 1
    assert run.faults == []


@both
def test_two_calls_of_one_provider_are_asked_and_answered_each(opened: Opened) -> None:
    run = Run([asking(call("fetch", "x", page="a"), call("fetch", "y", page="b")), "done"], tools=[fetch])
    with opened(run, "go") as host:
        while len(host.pending) < 2:
            asked(host)
        first, second = host.pending
        assert (first.call.id, second.call.id) == ("x", "y")
        second.resolve(GIVEN)
        assert asked(host) == first
        first.resolve(GIVEN)
        assert host.finish().text == "done"
    outputs = {event.call_id: event.output for event in run.of(ToolResultReceived)}
    assert outputs == {
        "x": f"a of {len(GIVEN)} in attempt 2",
        "y": f"b of {len(GIVEN)} in attempt 2",
    }
    results = [
        p.call_id for i in run.model.requests[1].items for p in i.parts if isinstance(p, ToolResultPart)
    ]
    assert results == ["x", "y"]
    assert run.faults == []


@both
def test_what_was_given_is_there_for_the_next_call(opened: Opened) -> None:
    run = Run([asking(call("fetch")), asking(call("fetch")), "done"], tools=[fetch])
    with opened(run, "go") as host:
        asked(host).resolve(GIVEN)
        assert host.finish().text == "done"
    assert len(run.of(AuthRequired)) == 1
    assert [event.output[-1] for event in run.of(ToolResultReceived)] == ["2", "1"]


@both
def test_a_second_answer_is_refused_and_replaces_no_credential(opened: Opened) -> None:
    @tool
    def length(context: ToolContext) -> int:
        """Say how long the credential is."""
        credential = context.credential("web")
        if credential is None:
            raise NeedsAuth("web")
        return len(credential.reveal())

    run = Run([asking(call("length")), asking(call("length")), "done"], tools=[length])
    with opened(run, "go") as host:
        step = asked(host)
        with pytest.raises(ConfigurationError, match="give the credential as a str") as caught:
            step.resolve(GIVEN.encode())  # type: ignore[arg-type] # the wrong type is the point
        assert "s3cr" not in str(caught.value)
        for empty in ("", None):
            with pytest.raises(ConfigurationError):
                step.resolve(empty)  # type: ignore[arg-type] # the same
        assert run.of(AuthResolved) == []
        step.resolve("abcd")
        with pytest.raises(IllegalMoveError):
            step.resolve("another one")
        with pytest.raises(IllegalMoveError):
            step.cancel()
        host.finish()
    assert [event.output for event in run.of(ToolResultReceived)] == [4, 4]
    assert run.faults == []


@both
def test_a_tool_may_ask_again_for_better_credentials(opened: Opened) -> None:
    @tool
    def picky(context: ToolContext) -> str:
        """Want the second one."""
        credential = context.credential("web")
        if credential is None or credential.reveal() != "second":
            raise NeedsAuth("web", purpose="" if credential is None else f"{credential.reveal()} is too old")
        return "fine"

    run = Run([asking(call("picky")), "done"], tools=[picky])
    with opened(run, "go") as host:
        asked(host).resolve("first")
        step = asked(host)
        assert (step.auth_id, step.purpose) == ("auth-2", "*** is too old")
        step.resolve("second")
        assert host.finish().text == "done"
    assert [event.attempt for event in run.of(ToolExecutionStarted)] == [1, 2, 3]
    assert run.faults == []


@both
def test_leaving_while_credentials_are_wanted_keeps_the_request_open(opened: Opened) -> None:
    run = Run([asking(call("fetch")), "done"], tools=[fetch])
    with opened(run, "go") as host:
        asked(host)
    (finished,) = run.of(RunFinished)
    assert (finished.outcome, finished.open_auths) == ("suspended", ("auth-1",))
    assert run.faults == []


@both
def test_a_cancel_refuses_the_credentials(opened: Opened) -> None:
    run = Run([asking(call("fetch")), "again"], tools=[fetch])
    with opened(run, "go") as host:
        asked(host)
        host.cancel()
        assert host.finish().finish_reason == "cancelled"
        assert host.run("and now").text == "again"
    assert [event.outcome for event in run.of(AuthResolved)] == ["cancelled"]
    (result,) = run.of(ToolResultReceived)
    assert (result.interrupted, result.not_started) == (True, False)
    assert run.faults == []


def test_approval_and_then_credentials() -> None:
    gated = attrs.evolve(fetch, approval=True)
    run = Run([asking(call("fetch")), "done"], tools=[gated])
    with run.agent.start("go") as driver:
        for step in driver:
            match type(step).__name__:
                case "ApprovalRequest":
                    step.approve(edited_input={"page": "other"})  # type: ignore[union-attr] # it is one
                case "AuthRequest":
                    step.resolve(GIVEN)  # type: ignore[union-attr] # it is one
                case _:
                    pass
    assert run.of(ToolResultReceived)[0].output == f"other of {len(GIVEN)} in attempt 2"
    assert [event.edited for event in run.of(ToolExecutionStarted)] == [True, True]
    assert run.faults == []
