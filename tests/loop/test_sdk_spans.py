"""The spans of the provider's SDK beside ours: replaced, adopted or off; no token is ever told twice."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anthropic
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from agentkit_loop import Agent, AnthropicModel, Retry, tool
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import AgentEvent, ContentDelta, ModelRequestFailed
from agentkit_loop.models.sdk_spans import SDK_SPANS, SdkSpans, keepers, stand_in, withdraw
from agentkit_loop.testing import (
    EventRecorder,
    MessagesServer,
    Reply,
    ScriptedCall,
    ScriptedModel,
    ServerReply,
)
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter, UsageReporter
from tests.loop.families import both
from tests.loop.kept_spans import KeptSpans, parent_of, scope_of
from tests.loop.messages_api import KEY, started, stream_of, text_block

THEIRS = "com.anthropic.sdk.python"
REPLIES: list[Any] = [
    Reply(
        calls=(ScriptedCall(name="look", input={}),),
        usage=Usage(input_tokens=10, cached_input_tokens=100, cache_write_input_tokens=20, output_tokens=5),
    ),
    ServerReply.refusal(529, "overloaded_error", "busy"),
    stream_of(started({"input_tokens": 40, "output_tokens": 3}), text_block("cut"), cut_after=3),
    Reply(text="done", usage=Usage(input_tokens=30, output_tokens=7)),
]
modes = pytest.mark.parametrize("mode", SDK_SPANS)
clients = pytest.mark.parametrize("given", [False, True], ids=["own-client", "given-client"])


@tool
def look() -> str:
    """Look."""
    return "seen"


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


def run(
    server: MessagesServer,
    *,
    mode: SdkSpans,
    given: bool,
    on_loop: bool,
    observers: list[Any],
    option: Any = None,
) -> None:
    """Run one exchange. option: `open_telemetry` of a client that is given."""
    made: dict[str, Any] = {"base_url": server.base_url, "api_key": KEY}

    def agent_of(**options: Any) -> Agent:
        model = AnthropicModel("claude-sonnet-5", sdk_spans=mode, **options)
        return Agent(model, tools=[look], observers=observers, retry=Retry(base_ms=1.0))

    async def arun() -> None:
        if given:
            async with anthropic.AsyncAnthropic(open_telemetry=option, **made) as client:
                await agent_of(async_client=client).arun("go")
            return
        agent = agent_of(**made)
        await agent.arun("go")
        await agent.model.aclose()  # type: ignore[attr-defined] # as made above

    if on_loop:
        asyncio.run(arun())
    elif given:
        with anthropic.Anthropic(open_telemetry=option, **made) as client:
            agent_of(client=client).run("go")
    else:
        agent = agent_of(**made)
        agent.run("go")
        agent.model.close()  # type: ignore[attr-defined] # as made above


def assert_tokens_are_told_once(kept: KeptSpans, usage: UsageReporter) -> None:
    total = usage.total.usage
    assert kept.sum("gen_ai.usage.input_tokens") == total.total_input_tokens
    assert kept.sum("gen_ai.usage.output_tokens") == total.output_tokens
    assert kept.sum("gen_ai.usage.cache_read.input_tokens") == (total.cached_input_tokens or 0)
    assert kept.sum("gen_ai.usage.cache_write.input_tokens") == (total.cache_write_input_tokens or 0)


def named(spans: list[ReadableSpan], start: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name.startswith(start)]


@both
@clients
@modes
def test_every_token_of_a_run_is_told_once_also_of_failed_and_retried_requests(
    mode: SdkSpans, given: bool, on_loop: bool, kept: KeptSpans
) -> None:
    usage, recorder, keeper = UsageReporter(), EventRecorder(), kept.reporter()
    option = {"tracer_provider": kept.provider}
    observers = [usage, recorder, keeper]
    with MessagesServer(REPLIES) as server:
        run(server, mode=mode, given=given, on_loop=on_loop, observers=observers, option=option)
    keeper.close()
    assert len([event for event in recorder.events if isinstance(event, ModelRequestFailed)]) == 2
    assert usage.total.usage.total_input_tokens == 130 + 40 + 30
    assert_tokens_are_told_once(kept, usage)
    assert len(named(kept.of(ours=True), "chat")) == 4
    assert len(kept.of(ours=False)) == (4 if mode == "adopt" else 0)


@both
@clients
def test_adopted_spans_are_below_the_span_of_their_own_request_and_keep_the_rest(
    given: bool, on_loop: bool, kept: KeptSpans
) -> None:
    keeper = kept.reporter()
    with MessagesServer(REPLIES) as server:
        run(server, mode="adopt", given=given, on_loop=on_loop, observers=[keeper])
    keeper.close()
    theirs = kept.of(ours=False)
    above = [parent_of(span, kept.all) for span in theirs]
    assert len({id(span) for span in above}) == len(theirs) == 4
    assert all(span is not None and span.name == "chat claude-sonnet-5" for span in above)
    assert len({span.context.trace_id for span in kept.all if span.context is not None}) == 1
    for span in theirs:
        told = dict(span.attributes or {})
        assert scope_of(span) == THEIRS
        assert told["gen_ai.request.model"] == "claude-sonnet-5"
        assert told["http.response.status_code"] in {200, 529}
        assert not any(name.startswith("gen_ai.usage.") for name in told)


@both
def test_a_request_that_is_cancelled_tells_its_tokens_once(on_loop: bool, kept: KeptSpans) -> None:
    usage, keeper = UsageReporter(), kept.reporter()

    with (
        MessagesServer(
            [
                stream_of(
                    started({"input_tokens": 40, "output_tokens": 3}), text_block("so far"), stall_after=3
                )
            ]
        ) as server,
        AnthropicModel("m", base_url=server.base_url, api_key=KEY, sdk_spans="adopt") as model,
    ):
        agent = Agent(model, observers=[usage, keeper])

        def cancel(driver: Any, event: AgentEvent) -> None:
            if isinstance(event, ContentDelta):
                driver.cancel("enough")

        async def arun() -> None:
            async with agent.astart() as driver:
                driver.add_observer(lambda event: cancel(driver, event))
                await driver.run("go")
            await model.aclose()

        if on_loop:
            asyncio.run(arun())
        else:
            with agent.start() as driver:
                driver.add_observer(lambda event: cancel(driver, event))
                driver.run("go")
    keeper.close()
    assert usage.total.usage.total_input_tokens == 40
    assert len(kept.of(ours=False)) == 1
    assert_tokens_are_told_once(kept, usage)


# --- without a reporter


@both
@pytest.mark.parametrize(("mode", "count"), [("replace", 4), ("adopt", 4), ("off", 0)])
def test_without_a_reporter_a_given_client_does_what_it_does_by_itself(
    mode: SdkSpans, count: int, on_loop: bool, kept: KeptSpans
) -> None:
    kept.reporter().close()  # one that was here
    for left in keepers():  # by other tests
        withdraw(left)
    option = {"tracer_provider": kept.provider}
    with MessagesServer(REPLIES) as server:
        run(server, mode=mode, given=True, on_loop=on_loop, observers=[], option=option)
    assert [scope_of(span) for span in kept.all] == [THEIRS] * count


def test_a_client_whose_spans_the_host_turned_off_makes_none(kept: KeptSpans) -> None:
    keeper = kept.reporter()
    with MessagesServer(REPLIES) as server:
        run(server, mode="adopt", given=True, on_loop=False, observers=[keeper], option=False)
    keeper.close()
    assert kept.of(ours=False) == []


def test_a_request_that_the_reporter_was_not_told_of_has_no_span_of_theirs(kept: KeptSpans) -> None:
    keeper = kept.reporter()  # observes another agent
    option = {"tracer_provider": kept.provider}
    with MessagesServer(REPLIES) as server:
        run(server, mode="adopt", given=True, on_loop=False, observers=[], option=option)
    keeper.close()
    assert kept.all == ()


def test_what_goes_wrong_with_spans_is_no_failure_of_the_request() -> None:
    class Broken(TracingReporter):
        def place_of_request(self, *_: str) -> Any:
            raise RuntimeError("no place")

    kept = KeptSpans()
    keeper = Broken(kept.provider, metrics=False)
    with MessagesServer(REPLIES) as server:
        run(server, mode="adopt", given=False, on_loop=False, observers=[keeper])
    keeper.close()
    assert len(named(kept.of(ours=True), "invoke_agent")) == 1


def test_a_run_that_is_not_sampled_has_no_span_of_theirs_either() -> None:
    kept = KeptSpans(ALWAYS_OFF)
    keeper = kept.reporter()
    with MessagesServer(REPLIES) as server:
        run(server, mode="adopt", given=False, on_loop=False, observers=[keeper])
    keeper.close()
    assert kept.all == ()


# --- which client


@pytest.mark.parametrize("mode", ["", "Replace", None, True], ids=repr)
def test_another_word_is_refused(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"sdk_spans=.* refused; give 'replace', 'adopt' or 'off'"):
        AnthropicModel("m", sdk_spans=mode)


def test_it_is_no_parameter_of_the_request() -> None:
    assert "sdk_spans" not in AnthropicModel("m", sdk_spans="adopt").parameters


def test_the_copies_of_a_client_share_its_connection(kept: KeptSpans) -> None:
    keeper = kept.reporter()
    with MessagesServer([Reply(text="a"), Reply(text="b"), Reply(text="c")]) as server:
        with AnthropicModel("m", base_url=server.base_url, api_key=KEY, sdk_spans="adopt") as model:
            agent = Agent(model, observers=[keeper])
            agent.run("adopted")
            agent.run("adopted")
            keeper.close()
            agent.run("plain")
        assert server.connections == 1
    assert len(kept.of(ours=False)) == 2


def test_a_reporter_stands_in_until_it_is_closed() -> None:
    one, other = TracingReporter(), TracingReporter()
    mine = (one, other)
    stand_in(one)
    assert [keeper for keeper in keepers() if keeper in mine] == [other, one]
    withdraw(one)
    withdraw(one)
    assert [keeper for keeper in keepers() if keeper in mine] == [other]
    other.close()
    assert not any(keeper in mine for keeper in keepers())


def test_a_reporter_that_nobody_holds_stands_in_no_more_though_it_was_never_closed(kept: KeptSpans) -> None:
    keeper = kept.reporter()
    option = keeper.client_option()
    Agent(ScriptedModel(["hi"]), observers=[keeper]).run("go")
    gone = weakref.ref(keeper)
    gc.disable()  # it is in no circle, which would keep the SDK's spans off until it is collected
    try:
        del keeper
        assert gone() is None
    finally:
        gc.enable()
    option["tracer_provider"].get_tracer("theirs").start_span("theirs")
