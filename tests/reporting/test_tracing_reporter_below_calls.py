"""`ToolContext.traceparent`: what a tool hangs its own spans and outgoing calls on, below the span of its call."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from agentkit_loop import NeedsAuth, ToolContext
from agentkit_loop.testing import Reply, ScriptedCall
from agentkit_loop.tools import Tool, tool
from agentkit_loop.trace_context import TRACEPARENT
from tests.loop.families import agent, both, calls, run, says
from tests.reporting.traced import Shape, Traced

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def fetching(traced: Traced) -> tuple[Tool[..., Any], Tool[..., Any]]:
    """Return two tools that make a span of their own below their call's, on a thread and on a loop."""
    tracer = traced.provider.get_tracer("of the tool")

    def make_span(context: ToolContext) -> None:
        assert context.traceparent is not None
        below = propagate.extract({"traceparent": context.traceparent})
        tracer.start_span(f"fetch for {context.call_id}", below).end()

    @tool
    def fetch(context: ToolContext) -> str:
        """Fetch."""
        make_span(context)
        return "x"

    @tool
    async def afetch(context: ToolContext) -> str:
        """Fetch, on a loop."""
        make_span(context)
        return "x"

    return fetch, afetch


def above(span: Shape, traced: Traced) -> Shape:
    """Return the span that is the parent of one."""
    assert span.parent is not None
    found = traced.by_id()[span.parent[1]]
    assert found.ids[0] == span.parent[0] == span.ids[0]
    return found


@both
def test_a_span_that_a_tool_makes_is_the_child_of_its_call(on_loop: bool) -> None:
    traced = Traced()
    fetch, afetch = fetching(traced)
    names = ("fetch", "afetch") if on_loop else ("fetch",)
    replies = [calls(*names), says("done")]
    run(agent("a", replies, tools=[fetch, afetch], observers=[traced.reporter]), on_loop=on_loop)
    made = traced.named("fetch")
    assert {above(span, traced).name for span in made} == {f"execute_tool {name}" for name in names}
    for span in made:
        assert above(span, traced).attributes["gen_ai.tool.call.id"] == span.name.removeprefix("fetch for ")


@both
def test_in_a_sub_agent_it_is_the_child_of_the_call_in_there(on_loop: bool) -> None:
    traced = Traced()
    inner = agent("inner", [calls("fetch"), says("found")], tools=[fetching(traced)[0]])
    outer = agent(
        "outer",
        [calls("inner", prompt="look"), says("done")],
        tools=[inner.as_tool(description="look")],
        observers=[traced.reporter],
    )
    run(outer, on_loop=on_loop)
    (made,) = traced.named("fetch")
    names, span = [], made
    while span.parent is not None:
        span = above(span, traced)
        names.append(span.name)
    assert names == ["execute_tool fetch", "invoke_agent inner", "execute_tool inner", "invoke_agent outer"]


def test_a_call_that_waited_for_credentials_has_one_place() -> None:
    seen: list[str | None] = []

    @tool
    def fetch(context: ToolContext) -> str:
        """Fetch."""
        seen.append(context.traceparent)
        if context.credential("shop") is None:
            raise NeedsAuth("shop")
        return "x"

    traced = Traced()
    with agent("a", [calls("fetch"), says("done")], tools=[fetch], observers=[traced.reporter]).start(
        "go"
    ) as driver:
        step = driver.next()
        step.resolve("key")  # type: ignore[union-attr] # the question for credentials
        driver.run()
    (call,) = traced.named("execute_tool")
    assert seen == [f"00-{call.ids[0]:032x}-{call.ids[1]:016x}-01"] * 2


@pytest.mark.parametrize("parent", [PARENT, PARENT[:-1] + "0"], ids=["sampled", "not-sampled"])
def test_it_says_what_the_parent_of_the_run_says_of_sampling(parent: str) -> None:
    traced = Traced(sampler=ParentBased(ALWAYS_OFF))
    seen: list[str] = []

    @tool
    def fetch(context: ToolContext) -> str:
        """Fetch."""
        seen.append(context.traceparent or "")
        return "x"

    replies = [Reply(text="", calls=(ScriptedCall(name="fetch", input={}),)), says("done")]
    with agent("a", replies, tools=[fetch], observers=[traced.reporter]).start(
        "go", metadata={TRACEPARENT: parent}
    ) as driver:
        driver.run()
    (told,) = seen
    assert (told[:35], told[-2:]) == (parent[:35], parent[-2:])
    assert len(traced.named("execute_tool")) == (parent == PARENT)


def test_a_context_of_no_run_has_no_place() -> None:
    assert ToolContext(lambda _: None, call_id="call-1").traceparent is None
