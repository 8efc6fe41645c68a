"""What AnthropicModel says of what goes wrong, over the SDK and a real socket."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import (
    TextPart,
)
from agentkit_loop.errors import ModelError
from agentkit_loop.events import AgentEvent, ModelRequestFailed
from agentkit_loop.models.anthropic import AnthropicModel
from agentkit_loop.models.anthropic_failures import retry_after_ms
from agentkit_loop.models.scripted import Reply, ScriptedFailure
from agentkit_loop.testing_server import Framing, MessagesServer, ServerReply
from agentkit_loop.usage import Usage
from tests.loop.messages_api import (
    KEY,
    Ask,
    Event,
    ended,
    hear,
    model_at,
    on_thread_and_loop,
    started,
    stream_of,
    text_block,
)


@on_thread_and_loop
@pytest.mark.parametrize(
    ("status", "error_type", "message", "error_class"),
    [
        (400, "invalid_request_error", "messages: bad", "invalid_request"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 300000 tokens > 200000 maximum",
            "context_exceeded",
        ),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "pay", "invalid_request"),
        (403, "permission_error", "no", "auth"),
        (404, "not_found_error", "model: none", "invalid_request"),
        (408, "timeout_error", "late", "timeout"),
        (409, "conflict", "again", "server"),
        (412, "precondition_failed", "no", "invalid_request"),
        (413, "request_too_large", "big", "invalid_request"),
        (422, "invalid_request_error", "odd", "invalid_request"),
        (429, "rate_limit_error", "slow", "rate_limited"),
        (431, "invalid_request_error", "headers", "invalid_request"),
        (499, "client_closed", "gone", "invalid_request"),
        (500, "api_error", "oops", "server"),
        (500, "overloaded_error", "busy", "overloaded"),
        (501, "api_error", "never", "server"),
        (502, "api_error", "far", "server"),
        (503, "api_error", "down", "server"),
        (504, "timeout_error", "late", "timeout"),
        (529, "overloaded_error", "busy", "overloaded"),
    ],
)
def test_each_status_has_its_class(
    ask: Ask, status: int, error_type: str, message: str, error_class: str
) -> None:
    with MessagesServer([ServerReply.refusal(status, error_type, message)] * 3) as server:
        failure = ask(model_at(server))[0].failure
        assert len(server.requests) == 1  # the SDK does not retry
    assert failure.error_class == error_class
    assert failure.request_id == "req_1"
    assert str(failure) == f"HTTP {status} {error_type}: {message}"


@on_thread_and_loop
def test_a_proxys_page_is_told_in_one_bounded_line(ask: Ask) -> None:
    page = b"<html>\n<h1>502\x1b[2J Bad Gateway</h1>" + b" x" * 5_000
    failure = hear(ask, ServerReply(status=502, headers={"content-type": "text/html"}, body=page)).failure
    assert failure.error_class == "server"
    assert str(failure).startswith(
        "HTTP 502: not an answer of the Messages API but text/html: <html> <h1>502"
    )
    assert str(failure).isprintable()
    assert len(str(failure)) < 600


@on_thread_and_loop
@pytest.mark.parametrize("cut", ["connection", "stream_cut"])
def test_a_connection_that_breaks_before_the_answer_is_none(ask: Ask, cut: str) -> None:
    heard = hear(ask, Reply(text="x", fail=ScriptedFailure(error_class=cut)))
    assert heard.failure.error_class == "stream_cut"
    assert heard.signals == []


@on_thread_and_loop
def test_nobody_listening_is_a_connection_error(ask: Ask) -> None:
    with MessagesServer() as server:
        address = server.base_url
    failure = ask(AnthropicModel("m", base_url=address, api_key=KEY))[0].failure
    assert failure.error_class == "connection"
    assert str(failure).startswith(f"no connection to {address}: ")


@on_thread_and_loop
def test_an_address_that_is_none_is_the_callers_error(ask: Ask) -> None:
    failure = ask(AnthropicModel("m", base_url="htp://nowhere", api_key=KEY))[0].failure
    assert failure.error_class == "invalid_request"


@on_thread_and_loop
@pytest.mark.parametrize(
    ("error_type", "message", "error_class"),
    [
        ("overloaded_error", "Overloaded", "overloaded"),
        ("api_error", "Internal", "server"),
        ("rate_limit_error", "slow", "rate_limited"),
        ("timeout_error", "late", "timeout"),
        ("authentication_error", "no", "auth"),
        ("invalid_request_error", "bad", "invalid_request"),
        ("invalid_request_error", "prompt is too long", "context_exceeded"),
        ("later_error", "what", "server"),
    ],
)
def test_an_error_inside_the_stream_has_its_class(
    ask: Ask, error_type: str, message: str, error_class: str
) -> None:
    error = {"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_inner"}
    heard = hear(
        ask, stream_of(started({"input_tokens": 4}), text_block("a"), error, text_block("b", index=1))
    )
    assert heard.failure.error_class == error_class
    assert str(heard.failure) == f"{error_type} while the answer was streamed: {message}"
    assert heard.failure.request_id == "req_inner"
    assert heard.parts == [TextPart(text="a")]
    assert heard.usages == [Usage(input_tokens=4, raw={"input_tokens": 4})]


@on_thread_and_loop
@pytest.mark.parametrize("framing", ["event", "whole"])
def test_what_came_before_a_cut_is_told(ask: Ask, framing: Framing) -> None:
    heard = hear(ask, stream_of(started(), text_block("a", "b"), ended(), cut_after=4, framing=framing))
    assert heard.chunks == ["a", "b"]
    assert heard.failure.error_class == "stream_cut"
    assert heard.failure.request_id == "req_1"


@on_thread_and_loop
def test_usage_that_came_before_a_cut_is_told(ask: Ask) -> None:
    heard = hear(ask, stream_of(started({"input_tokens": 4}), ended(output_tokens=9), cut_after=2))
    assert [usage.output_tokens for usage in heard.usages] == [None, 9]
    assert heard.failure.error_class == "stream_cut"


@on_thread_and_loop
@pytest.mark.parametrize("count", range(5))
def test_a_silent_end_before_the_end_is_a_cut(ask: Ask, count: int) -> None:
    events = [started(), *text_block("a"), *ended()][:count]
    assert hear(ask, stream_of(events)).failure.error_class == "stream_cut"


@on_thread_and_loop
def test_a_silent_server_is_a_timeout(ask: Ask) -> None:
    heard = hear(ask, stream_of(started(), text_block("a"), ended(), stall_after=3), timeout_s=0.3)
    assert heard.chunks == ["a"]
    assert heard.failure.error_class == "timeout"
    assert "timeout_s=" in str(heard.failure)


@on_thread_and_loop
def test_a_server_that_never_ends_its_response_keeps_no_answer_back(ask: Ask) -> None:
    heard = hear(ask, stream_of(started(), text_block("a"), ended(), stall_after=6), timeout_s=0.3)
    assert heard.answer.finish_reason == "completed"


@on_thread_and_loop
@pytest.mark.parametrize(
    "events",
    [
        [started(), started()],
        [started(), *text_block("a"), *text_block("b")],
        [
            started(),
            {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}},
        ],
        [started(), {"type": "content_block_delta", "index": 3, "delta": {"type": "later_delta"}}],
        [started(), {"type": "content_block_stop", "index": 0}],
        [started(), {"type": "content_block_start", "index": "0", "content_block": {}}],
        [started(), {"type": "content_block_start", "index": 0}],
        [{"type": "message_start"}],
        [b"data: no JSON\n\n"],
        [b'data: {"object": "chat.completion.chunk"}\n\n'],
        [b"data: " + b"[" * 100_000 + b"\n\n"],
    ],
)
def test_a_stream_that_breaks_the_rules_is_the_providers_error(ask: Ask, events: list[Event | bytes]) -> None:
    failure = hear(ask, ServerReply(events=tuple(events))).failure
    assert failure.error_class == "server"
    assert str(failure).startswith("the provider's stream held ")


@on_thread_and_loop
def test_broken_compression_is_a_cut(ask: Ask) -> None:
    reply = ServerReply(
        headers={"content-type": "text/event-stream", "content-encoding": "gzip"}, body=b"no gzip"
    )
    assert hear(ask, reply).failure.error_class == "stream_cut"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "250.5", "retry-after": "9"}, 250.5),
        ({"retry-after": "2"}, 2_000.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": formatdate(90, usegmt=True), "date": formatdate(60, usegmt=True)}, 30_000.0),
        ({"retry-after": "4290000"}, 3_600_000.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1_000.0),
        ({"retry-after": formatdate(60, usegmt=True), "date": formatdate(90, usegmt=True)}, None),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 3_600_000.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after_ms(headers) == wait


@on_thread_and_loop
@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "3"}, 3_000.0),
        ({"retry_after_ms": "1.5"}, 1.5),
        ({"retry_after": formatdate(4_000_000_000, usegmt=True)}, 3_600_000.0),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "99999999999999999999"}, 3_600_000.0),
        ({"retry_after": "when the \u20ac falls"}, None),
        ({}, None),
    ],
)
def test_retry_after_reaches_the_error(
    ask: Ask, status: int, headers: dict[str, str], wait: float | None
) -> None:
    encoded = {name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()}
    failure = hear(ask, ServerReply.refusal(status, "rate_limit_error", "slow", **encoded)).failure
    assert failure.retry_after_ms == wait
    assert failure.retryable


@on_thread_and_loop
@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        (b'{"error": {"type": "overloaded_error", "message": "busy"}}', "overloaded"),
        (b'{"type": "rate_limit_error", "message": "slow"}', "rate_limited"),
        (b'{"error": "boom"}', "server"),
        (b"upstream went away", "server"),
        (b'{"type": "error", "error": null}', "server"),
    ],
)
def test_an_error_event_of_a_gateway_is_an_error_whatever_its_form(
    ask: Ask, said: bytes, error_class: str
) -> None:
    failure = hear(ask, stream_of(started(), b"event: error\ndata: " + said + b"\n\n")).failure
    assert failure.error_class == error_class
    assert "while the answer was streamed" in str(failure)


def test_the_providers_id_of_a_failed_request_is_in_the_log() -> None:
    events: list[AgentEvent] = []
    refusal = ServerReply.refusal(400, "invalid_request_error", "no")
    with MessagesServer([refusal]) as server, model_at(server) as model, pytest.raises(ModelError):
        Agent(model, observers=[events.append]).run("hi")
    (failed,) = [event for event in events if isinstance(event, ModelRequestFailed)]
    assert failed.error.message.endswith("(request req_1)")
