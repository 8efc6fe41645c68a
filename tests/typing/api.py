"""The public API as a user's type checker sees it: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, assert_type

from agentkit_loop import (
    AfterToolResult,
    Agent,
    AgentEvent,
    AnthropicModel,
    ApprovalRequest,
    AsyncLoopDriver,
    AuthRequest,
    AwaitingInput,
    EventEmitter,
    FailurePolicy,
    Finished,
    LoopDriver,
    LoopObserver,
    Registration,
    Retry,
    RunResult,
    ScriptedModel,
    ToolCallRequested,
    ToolContext,
    Usage,
    tool,
)
from agentkit_reporting import (
    Account,
    BufferedReporter,
    ChannelReceiver,
    ChannelReporter,
    CompositeReporter,
    Conformance,
    EventDispatcher,
    JsonlReporter,
    LoggingReporter,
    OwnPattern,
    PolicyReporter,
    PrometheusMetrics,
    RedactingReporter,
    Redactor,
    Rotation,
    SessionProfiler,
    StdoutReporter,
    Subscription,
    ToolRecorder,
    TopicPayload,
    TranscriptReporter,
    UsageReporter,
    UsageStore,
    WebhookSink,
    check_log,
    forward_topics,
    read_events,
    slack_template,
)


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return path


@tool(timeout_s=5, idempotent=True)
async def fetch(context: ToolContext, url: str) -> bytes:
    """Fetch a page."""
    context.progress(url, 0.5)
    assert_type(context.traceparent, str | None)
    return b""


class Counter(LoopObserver):
    """Counts."""

    wants = (ToolCallRequested,)

    def handle_event(self, event: AgentEvent) -> None:
        """Count."""


def use() -> None:
    """Use everything once."""
    assert_type(read_file("x"), str)
    events: list[AgentEvent] = []
    usage = UsageReporter()
    agent = Agent(
        AnthropicModel("claude-sonnet-5"),
        tools=[read_file, fetch, print],
        system="…",
        observers=[
            StdoutReporter(),
            JsonlReporter("run.jsonl"),
            usage,
            TranscriptReporter(),
            events.append,
            Registration(Counter(), policy=FailurePolicy.FAIL_FAST, disable_after=3),
        ],
        failure_policy=FailurePolicy.LOG,
        retry=Retry(max_attempts=2),
    )
    result = agent.run("hi")
    assert_type(result, RunResult)
    assert_type(result.cost, Decimal | None)
    assert_type(result.usage, Usage)
    with agent.start(metadata={"tier": 1}) as driver:
        assert_type(driver, LoopDriver)
        driver.submit("hi")
        for step in driver:
            match step:
                case AwaitingInput():
                    driver.submit("more")
                case AfterToolResult(results=results):
                    step.submit(f"{len(results)} are in")
                case ApprovalRequest(call=call):
                    if call.name == "read_file":
                        step.approve(by="ann", edited_input={"path": "a"})
                    else:
                        step.deny("not on Fridays")
                case AuthRequest():
                    step.resolve("token")
                case Finished(result=result):
                    assert_type(result, RunResult)
    for event in agent.stream("hi"):
        assert_type(event, AgentEvent)
    for event in read_events("run.jsonl"):
        usage.handle_event(event)
    EventEmitter([usage]).emit(events[0])


def use_reporters() -> None:
    """Use the adapters, the production log and the check."""
    redactor = Redactor(["secrets", OwnPattern("ticket", r"TCK-\d{6}")], mode="pseudonym", key=b"k" * 32)
    log = JsonlReporter(
        "run.jsonl", rotation=Rotation(max_bytes=1_000_000, compress="zstd", keep=3), redact=redactor
    )
    reporter, receiver = ChannelReporter.pair(100, "drop_oldest", wants=(ToolCallRequested,))
    both = CompositeReporter(log, Registration(print, disable_after=3)).with_observer(reporter)
    assert_type(both, CompositeReporter)
    assert_type(receiver, ChannelReceiver)
    for event in receiver:
        assert_type(event, AgentEvent)
    policed = PolicyReporter(
        BufferedReporter(ChannelReporter.threaded(LoggingReporter()), 10, max_age_s=1),
        FailurePolicy.ACCUMULATE,
    )
    assert_type(policed.account(), Account)
    assert_type(RedactingReporter(policed, ["secrets", "email"]).close(1.5), bool)
    assert_type(check_log("run.jsonl"), Conformance)
    with read_events("run.jsonl", follow=True, until_run_end=True) as reader:
        for event in reader:
            assert_type(event, AgentEvent)


def use_dispatcher() -> None:
    """Use the dispatcher and its sinks."""
    with EventDispatcher(async_dispatch=True, overflow="block", on_error=print, replay=10) as dispatcher:

        @dispatcher.on("agent.*")
        def one(payload: TopicPayload) -> str:
            return payload.topic

        @dispatcher.on("agent.**", once=True)
        async def other(payload: dict[str, object]) -> None:
            del payload

        assert_type(one(TopicPayload({})), str)
        assert_type(
            dispatcher.subscribe("a", WebhookSink("https://x/", template=slack_template())), Subscription
        )
        assert_type(dispatcher.subscribe("**", PrometheusMetrics(), replay=3), Subscription)
        assert_type(forward_topics(dispatcher, EventEmitter([dispatcher])), Subscription)
        dispatcher.emit("a.b", {"session_id": "s", "timestamp": 0.0})
        assert_type(dispatcher.account(), Account)


async def take_later(event: AgentEvent) -> None:
    """Take an event."""
    del event


async def use_async() -> None:
    """Use the asynchronous half."""
    channel = ChannelReporter.on_loop(take_later, maxsize=10)
    assert_type(await channel.aclose(1), bool)
    agent = Agent(ScriptedModel(["hi"]))
    async with agent as entered:
        assert_type(entered, Agent)
    assert_type(await agent.aclose(), None)
    assert_type(await agent.arun("hi"), RunResult)
    async with agent.astart() as driver:
        assert_type(driver, AsyncLoopDriver)
        async for step in driver:
            if isinstance(step, Finished):
                assert_type(step.result.text, str)
    async for event in agent.astream("hi"):
        assert_type(event, AgentEvent)


recorder = ToolRecorder(allow={"search": ["query"]})


@recorder.tool("search")
async def search(query: str, *, limit: int = 3) -> list[str]:
    """Search."""
    return [query] * limit


class Shop:
    """Has a recorded method."""

    @recorder.tool
    def price(self, item: str) -> int:
        """Return a price."""
        return len(item)


def record() -> None:
    """Use the records once."""
    found: Coroutine[Any, Any, list[str]] = search("x", limit=2)
    found.close()
    assert_type(recorder.instrument("length", len)("abc"), int)
    assert_type(Shop().price("tea"), int)
    with SessionProfiler("sessions.jsonl", print, budget=2).session("s") as span:
        span.record_tokens(10, 5, 0.01)
        assert_type(span.total_cost_usd, Decimal | None)
    assert_type(UsageStore("usage.jsonl").since(hours=24).total_cost(), Decimal | None)
