"""Spans of the provider's SDK in a loop that somebody else wrote: they join ours, and no token is told twice."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from agentkit_loop import EventEmitter
from agentkit_loop.scopes import RunScope
from agentkit_loop.testing import MessagesServer, Reply, ScriptedCall, ServerReply
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter, UsageReporter
from tests.loop.kept_spans import KeptSpans, parent_of
from tests.loop.messages_api import KEY, started, stream_of, text_block

REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "go"}],
}
FIRST = Reply(text="one", usage=Usage(input_tokens=10, cached_input_tokens=5, output_tokens=2))
SECOND = Reply(text="two", usage=Usage(input_tokens=100, output_tokens=20))
CUT = stream_of(started({"input_tokens": 40, "output_tokens": 3}), text_block("cut"), cut_after=3)


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


@pytest.fixture
def keeper(kept: KeptSpans) -> Iterator[TracingReporter]:
    made = kept.reporter()
    yield made
    made.close()


def client_at(server: MessagesServer, keeper: TracingReporter, **options: Any) -> anthropic.Anthropic:
    option = keeper.client_option()
    return anthropic.Anthropic(base_url=server.base_url, api_key=KEY, open_telemetry=option, **options)


def by_hand(*observers: Any) -> RunScope:
    return EventEmitter(observers).run(agent_name="by hand", model="claude-sonnet-5")


def assert_tokens_are_told_once(kept: KeptSpans, usage: UsageReporter) -> None:
    total = usage.total.usage
    assert kept.sum("gen_ai.usage.input_tokens") == total.total_input_tokens
    assert kept.sum("gen_ai.usage.output_tokens") == total.output_tokens


def above(span: ReadableSpan, kept: KeptSpans) -> str | None:
    found = parent_of(span, kept.all)
    return None if found is None else found.name


def whole(run: RunScope, client: anthropic.Anthropic) -> None:
    with run.model_call(messages=REQUEST["messages"]) as call:
        call.record(client.messages.create(**REQUEST))


def raw(run: RunScope, client: anthropic.Anthropic) -> None:
    with run.model_call() as call:
        call.record(client.messages.with_raw_response.create(**REQUEST))


def streamed(run: RunScope, client: anthropic.Anthropic) -> None:
    with run.model_call() as call:
        for _ in call.stream(client.messages.create(**REQUEST, stream=True)):
            pass


def streamed_by_the_helper(run: RunScope, client: anthropic.Anthropic) -> None:
    with run.model_call() as call, client.messages.stream(**REQUEST) as stream:
        for _ in call.stream(stream):
            pass


def told_afterwards(run: RunScope, client: anthropic.Anthropic) -> None:
    run.record_model_call(client.messages.create(**REQUEST))


@pytest.mark.parametrize("ask", [whole, raw, streamed, streamed_by_the_helper, told_afterwards])
def test_every_token_is_told_once_however_the_answer_is_read(
    ask: Any, kept: KeptSpans, keeper: TracingReporter
) -> None:
    usage = UsageReporter()
    with (
        MessagesServer([FIRST, SECOND]) as server,
        client_at(server, keeper) as client,
        by_hand(usage, keeper) as run,
    ):
        ask(run, client)
        ask(run, client)
    theirs = kept.of(ours=False)
    assert usage.total.usage.total_input_tokens == 115
    assert_tokens_are_told_once(kept, usage)
    names = {None} if ask is told_afterwards else {"chat claude-sonnet-5"}
    assert {above(span, kept) for span in theirs} == names
    assert len(theirs) == 2
    assert all(dict(span.attributes or {})["gen_ai.response.id"] for span in theirs)


def test_requests_that_fail_are_cut_or_are_made_again_by_the_sdk_tell_theirs_once(
    kept: KeptSpans, keeper: TracingReporter
) -> None:
    usage = UsageReporter()
    busy = ServerReply.refusal(529, "overloaded_error", "busy", retry_after="0")
    with (
        MessagesServer([busy, FIRST, busy, CUT]) as server,
        client_at(server, keeper, max_retries=1) as client,
        by_hand(usage, keeper) as run,
    ):
        whole(run, client)
        with pytest.raises(anthropic.InternalServerError), run.model_call():
            client.with_options(max_retries=0).messages.create(**REQUEST)
        with pytest.raises(Exception, match=r"closed|incomplete|peer"):
            streamed(run, client)
    assert usage.total.usage.total_input_tokens == 15 + 40
    assert_tokens_are_told_once(kept, usage)
    assert len(kept.of(ours=False)) == 3
    assert {above(span, kept) for span in kept.of(ours=False)} == {"chat claude-sonnet-5"}


def test_the_tool_runner_keeps_its_own_tree_and_its_tokens_are_told_once(
    kept: KeptSpans, keeper: TracingReporter
) -> None:
    usage = UsageReporter()

    @anthropic.beta_tool
    def look() -> str:
        """Look."""
        return "seen"

    calling = Reply(
        calls=(ScriptedCall(name="look", input={}),), usage=Usage(input_tokens=7, output_tokens=3)
    )
    with (
        MessagesServer([calling, SECOND], strict=False) as server,  # the runner sends what is new alone
        client_at(server, keeper) as client,
        by_hand(usage, keeper) as run,
    ):
        for message in client.beta.messages.tool_runner(tools=[look], **REQUEST):
            run.record_model_call(message)
    assert usage.total.usage.total_input_tokens == 107
    assert_tokens_are_told_once(kept, usage)
    theirs = {span.name: above(span, kept) for span in kept.of(ours=False)}
    runner = "anthropic.messages.tool_runner"
    assert theirs == {
        runner: None,
        "anthropic.messages.create": runner,
        "anthropic.custom_tool_use look": runner,
    }


class _Counting(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"input_tokens": 1_000}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_counting_tokens_uses_none(kept: KeptSpans, keeper: TracingReporter) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Counting) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        with (
            anthropic.Anthropic(
                base_url=f"http://127.0.0.1:{server.server_address[1]}",
                api_key=KEY,
                open_telemetry=keeper.client_option(),
            ) as client,
            EventEmitter([keeper]).run(agent_name="by hand"),
        ):
            counted = client.messages.count_tokens(model="m", messages=REQUEST["messages"])
        thread.join()
    assert counted.input_tokens == 1_000
    (theirs,) = kept.of(ours=False)
    assert theirs.name == "anthropic.messages.count_tokens"
    assert kept.sum("gen_ai.usage.input_tokens") == 0


def test_requests_of_several_tasks_are_each_below_their_own(kept: KeptSpans, keeper: TracingReporter) -> None:
    usage = UsageReporter()

    async def one(client: anthropic.AsyncAnthropic, number: int) -> None:
        emitter = EventEmitter([usage, keeper])
        async with emitter.run(agent_name=f"agent-{number}", model="m") as run, run.model_call() as call:
            call.record(await client.messages.create(**REQUEST))

    async def all_of(server: MessagesServer) -> None:
        async with anthropic.AsyncAnthropic(
            base_url=server.base_url, api_key=KEY, open_telemetry=keeper.client_option()
        ) as client:
            await asyncio.gather(*(one(client, number) for number in range(8)))

    with MessagesServer(lambda _: FIRST) as server:
        asyncio.run(all_of(server))
    assert_tokens_are_told_once(kept, usage)
    found = [parent_of(span, kept.all) for span in kept.of(ours=False)]
    assert len({id(span) for span in found}) == 8
    runs = [None if span is None else parent_of(span, kept.all) for span in found]
    assert {span.name for span in runs if span is not None} == {f"invoke_agent agent-{n}" for n in range(8)}


# --- the provider itself


def test_a_span_below_another_of_theirs_stays_there_and_only_usage_is_left_out(
    kept: KeptSpans, keeper: TracingReporter
) -> None:
    tracer = keeper.client_option()["tracer_provider"].get_tracer("theirs", "1")
    with EventEmitter([keeper]).run(agent_name="by hand", model="m") as run, run.model_call() as call:
        told = {"gen_ai.usage.input_tokens": 1, "kept": 1}
        with tracer.start_as_current_span("outer", attributes=told) as outer:
            assert trace.get_current_span() is outer
            inner = tracer.start_span("inner")
            inner.set_attribute("gen_ai.usage.output_tokens", 2)
            inner.set_attributes({"gen_ai.usage.reasoning.output_tokens": 2, "kept": 2})
            inner.add_event("seen", {"at": 1})
            inner.add_link(outer.get_span_context())
            inner.record_exception(ValueError("no"))
            inner.update_name("renamed")
            inner.set_status(trace.StatusCode.ERROR, "no")
            assert inner.is_recording()
            assert inner.name == "renamed"
            inner.end()
        call.usage(Usage(input_tokens=1))
    renamed, outer_told = kept.of(ours=False)
    assert (above(renamed, kept), above(outer_told, kept)) == ("outer", "chat m")
    assert dict(renamed.attributes or {}) == {"kept": 2}
    assert dict(outer_told.attributes or {}) == {"kept": 1}
    assert [event.name for event in renamed.events] == ["seen", "exception"]
    assert len(renamed.links) == 1
    assert renamed.status.description == "no"


def test_outside_of_any_request_a_span_has_the_parent_that_it_would_have(
    kept: KeptSpans, keeper: TracingReporter
) -> None:
    tracer = keeper.client_option()["tracer_provider"].get_tracer("theirs")
    with kept.provider.get_tracer("host").start_as_current_span("host's"):
        tracer.start_span("theirs").end()
    theirs = kept.all[0]
    assert above(theirs, kept) == "host's"


def test_after_the_reporter_is_closed_everything_is_passed_on(
    kept: KeptSpans, keeper: TracingReporter
) -> None:
    tracer = keeper.client_option()["tracer_provider"].get_tracer("theirs")
    keeper.close()
    tracer.start_span("theirs", attributes={"gen_ai.usage.input_tokens": 3}).end()
    assert kept.sum("gen_ai.usage.input_tokens") == 3


_ONE_PROCESS = """
import asyncio, os
from opentelemetry import trace
from agentkit_loop import Agent, AnthropicModel
from agentkit_loop.testing import MessagesServer, Reply
from agentkit_loop.usage import Usage
from agentkit_reporting import TracingReporter
from tests.loop.kept_spans import KeptSpans
kept, counts = KeptSpans(), []
def count():
    counts.append((len(kept.of(ours=False)), kept.sum("gen_ai.usage.input_tokens")))
    kept.exporter.clear()
with MessagesServer(lambda _: Reply(text="hi", usage=Usage(input_tokens=7))) as server:
    def ask(mode, *observers):
        with AnthropicModel("m", base_url=server.base_url, api_key="sk-x", sdk_spans=mode) as model:
            Agent(model, observers=observers).run("go")
        count()
    async def aask(mode, *observers):
        model = AnthropicModel("m", base_url=server.base_url, api_key="sk-x", sdk_spans=mode)
        await Agent(model, observers=observers).arun("go")
        await model.aclose()
        count()
    ask("replace")
    keeper = TracingReporter(metrics=False)
    client_made_first = keeper.client_option()["tracer_provider"].get_tracer("theirs")
    trace.set_tracer_provider(kept.provider)
    client_made_first.start_span("theirs").end()
    count()
    for mode in ("replace", "adopt", "off"):
        ask(mode, keeper)
        asyncio.run(aask(mode, keeper))
    keeper.close()
    for mode in ("replace", "adopt", "off"):
        ask(mode)
    os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"
    ask("replace")
print(counts[:2], counts[2:8], counts[8:])
"""


def test_a_client_of_our_own_follows_the_global_provider() -> None:
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ONE_PROCESS], capture_output=True, text=True, check=False
    )
    before = [(0, 0), (1, 0)]
    standing = [(0, 7), (0, 7), (1, 7), (1, 7), (0, 7), (0, 7)]  # each mode: as it is, and on a loop
    alone = [(1, 0), (1, 0), (0, 0), (0, 0)]  # we read the bytes of the answer, which tells theirs no usage
    assert told.stdout.strip() == f"{before} {standing} {alone}", told.stderr
