"""The test server: what it refuses, how it writes, and what it remembers."""

from __future__ import annotations

import gzip
import http.client
import json
from typing import Any

import pytest

from agentkit_loop.errors import ConfigurationError
from agentkit_loop.models.scripted import Reply, ScriptedCall, ScriptedFailure
from agentkit_loop.testing_server import Framing, MessagesServer, ServerReply, check_messages
from agentkit_loop.usage import Usage
from tests.loop.messages_api import ask_on_thread, model_at

HELLO = {"role": "user", "content": "hello"}
GREETING = {"model": "m", "max_tokens": 10, "messages": [HELLO]}


def call(*ids: str) -> dict[str, Any]:
    blocks = [{"type": "tool_use", "id": call_id, "name": "read", "input": {}} for call_id in ids]
    return {"role": "assistant", "content": blocks}


def result(*ids: str, **fields: Any) -> dict[str, Any]:
    blocks = [{"type": "tool_result", "tool_use_id": call_id, **fields} for call_id in ids]
    return {"role": "user", "content": blocks}


SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


def marked(mark: dict[str, Any] = SHORT) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": list(messages), **fields}


TOOL = {"name": "read", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    "taken",
    [
        body(HELLO),
        body(HELLO, HELLO),
        body(HELLO, call("a", "b"), result("b", "a")),
        body(HELLO, call("a"), call("b"), result("a", "b")),
        body(HELLO, call("a"), result("a"), HELLO, call("b"), result("b")),
        body(HELLO, {"role": "assistant", "content": "I think"}),
        body(HELLO, tools=[TOOL, {"type": "web_search_20260209", "name": "web_search"}], system="be kind"),
        body(HELLO, {"role": "assistant", "content": [{"type": "later_block"}]}),
        body(marked(LONG), marked(SHORT), tools=[{**TOOL, "cache_control": LONG}], cache_control=SHORT),
    ],
)
def test_what_the_api_takes_is_taken(taken: dict[str, Any]) -> None:
    assert check_messages(taken) is None


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        ([], "valid dictionary"),
        ({"max_tokens": 1, "messages": [HELLO]}, "model: Field required"),
        ({"model": "m", "messages": [HELLO]}, "max_tokens: Field required"),
        (body(HELLO, max_tokens=0), "max_tokens"),
        (body(HELLO, max_tokens=True), "max_tokens"),
        (body(), "at least one message"),
        (body({"role": "system", "content": "x"}), "messages.0.role"),
        (body({"role": "assistant", "content": "x"}), "first message"),
        (body({"role": "user", "content": []}), "non-empty content"),
        (body({"role": "user", "content": None}), "valid list"),
        (body({"role": "user", "content": [{}]}), "messages.0.content.0.type"),
        (body({"role": "user", "content": ""}), "text content blocks must be non-empty"),
        (body({"role": "user", "content": "\n"}), "non-whitespace"),
        (body(HELLO, system=[{"type": "text", "text": ""}]), "system: text content blocks"),
        (body(HELLO, call("a")), "were found without `tool_result` blocks immediately after: a"),
        (body(HELLO, call("a", "b"), result("a")), "immediately after: b"),
        (body(HELLO, call("a"), HELLO, {"role": "assistant", "content": "x"}, result("a")), "after: a"),
        (body(HELLO, call("a"), HELLO, result("a")), "immediately after: a"),
        (body(HELLO, result("a")), "unexpected `tool_use_id`"),
        (body(HELLO, call("a"), result("a", "a")), "Found multiple"),
        (body(HELLO, call("a", "a"), result("a")), "ids must be unique"),
        (body(HELLO, call("a"), result("a"), call("a"), result("a")), "ids must be unique"),
        (body(HELLO, call("a~2"), result("a~2")), "should match pattern"),
        (body(HELLO, {**call("a"), "role": "user"}), "only be in `assistant`"),
        (body(HELLO, {**result("a"), "role": "assistant"}), "only be in `user`"),
        (body(HELLO, {"role": "assistant", "content": "x "}), "trailing whitespace"),
        (body(HELLO, {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}), "signature"),
        (body(HELLO, tools=[TOOL, TOOL]), "Tool names must be unique"),
        (body(HELLO, tools=[{**TOOL, "name": "a b"}]), "tools.0.custom.name"),
        (body(HELLO, tools=[{**TOOL, "name": "a" * 129}]), "tools.0.custom.name"),
        (body(HELLO, tools=[{"name": "read"}]), "input_schema"),
        (body(*[marked()] * 5), "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        (body(*[marked()] * 4, cache_control=SHORT), "Found 5."),
        (body(marked(SHORT), marked(LONG)), "messages.0.content.1.cache_control.ttl: a ttl='1h'"),
        (
            body(marked(LONG), tools=[{**TOOL, "cache_control": SHORT}]),
            "messages.0.content.0.cache_control.ttl",
        ),
        (body(marked({"type": "ephemeral", "ttl": "2h"})), "messages.0.content.0.cache_control: Input"),
        (body(HELLO, tools=[{**TOOL, "defer_loading": True, "cache_control": SHORT}]), "tools.0: tools with"),
        (
            body(
                HELLO,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "x", "signature": "s", "cache_control": SHORT}
                    ],
                },
            ),
            "messages.1.content.0.thinking.cache_control",
        ),
        (
            body(HELLO, call("a"), result("a", content=[{"type": "text", "text": "x", "cache_control": {}}])),
            "messages.2.content.0.content.0.cache_control",
        ),
    ],
)
def test_what_the_api_refuses_is_refused(refused: Any, sentence: str) -> None:
    assert sentence in (check_messages(refused) or "taken")


def test_an_error_result_without_content_is_refused() -> None:
    empty = {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": ""}
    refused = check_messages(body(HELLO, call("a"), {"role": "user", "content": [empty]}))
    assert refused == "messages.2.content.0.tool_result: content cannot be empty if `is_error` is true"


def post(
    server: MessagesServer, sent: Any = GREETING, *, key: str | None = "secret", path: str = "/v1/messages"
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.base_url.removeprefix("http://"), timeout=5)
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    try:
        connection.request("POST", path, json.dumps(sent), headers)
        response = connection.getresponse()
        response.text = response.read()  # type: ignore[attr-defined] # kept for the test, the connection goes
    finally:
        connection.close()
    return response


def told(response: http.client.HTTPResponse) -> bytes:
    raw: bytes = response.text  # type: ignore[attr-defined] # see post
    return gzip.decompress(raw) if response.getheader("content-encoding") == "gzip" else raw


@pytest.mark.parametrize("framing", ["event", "whole", "byte"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_framing_says_the_same(framing: Framing, packed: bool) -> None:
    reply = Reply(
        reasoning="so",
        text="hello",
        calls=(ScriptedCall(name="read"),),
        usage=Usage(input_tokens=3, output_tokens=2),
    )
    with MessagesServer([reply], framing=framing, gzip=packed) as server:
        raw = told(post(server, {**GREETING, "stream": True}))
    names = [line.removeprefix(b"event: ") for line in raw.split(b"\n") if line.startswith(b"event: ")]
    assert names[0] == b"message_start"
    assert names.count(b"content_block_start") == names.count(b"content_block_stop") == 3
    assert names[-2:] == [b"message_delta", b"message_stop"]


def test_a_refused_request_costs_no_reply() -> None:
    with MessagesServer(["hello"]) as server:
        refused = post(server, body({"role": "user", "content": ""}))
        assert refused.status == 400
        assert json.loads(told(refused))["error"]["type"] == "invalid_request_error"
        assert b"hello" in told(post(server))
        spent = post(server)
    assert spent.status == 400
    assert b"no reply for request 3" in told(spent)


def test_a_lax_server_takes_what_the_api_refuses() -> None:
    with MessagesServer(["hello"], strict=False) as server:
        assert post(server, body({"role": "user", "content": ""})).status == 200


def test_a_request_without_a_key_or_to_another_path_is_refused() -> None:
    with MessagesServer(["hello"]) as server:
        assert post(server, key=None).status == 401
        assert post(server, path="/v1/complete").status == 404


def test_requests_are_kept_without_credentials() -> None:
    with MessagesServer(lambda sent: f"you said {sent['messages'][0]['content']}") as server:
        assert b"you said" in told(post(server))
        (request,) = server.requests
    assert request.body == GREETING
    assert request.headers["content-type"] == "application/json"
    assert request.authorized
    assert "secret" not in repr(request)


@pytest.mark.parametrize(
    ("error_class", "status", "error_type"),
    [
        ("rate_limited", 429, "rate_limit_error"),
        ("overloaded", 529, "overloaded_error"),
        ("server", 500, "api_error"),
        ("context_exceeded", 400, "invalid_request_error"),
        ("auth", 401, "authentication_error"),
        ("other", 400, "invalid_request_error"),
    ],
)
def test_a_scripted_failure_before_the_answer_is_a_status(
    error_class: str, status: int, error_type: str
) -> None:
    fail = ScriptedFailure(error_class=error_class, retry_after_ms=7.0)
    with MessagesServer([Reply(fail=fail)]) as server:
        response = post(server)
    assert response.status == status
    assert json.loads(told(response))["error"]["type"] == error_type
    assert response.getheader("retry-after-ms") == "7.0"


def test_a_scripted_failure_inside_the_answer_is_an_error_event_or_a_cut() -> None:
    overloaded = Reply(text="hello " * 9, fail=ScriptedFailure(after_chunks=1))
    cut = Reply(text="hello " * 9, fail=ScriptedFailure(after_chunks=1, error_class="stream_cut"))
    with MessagesServer([overloaded, cut]) as server:
        raw = told(post(server))
        assert raw.count(b"text_delta") == 1
        assert b"overloaded_error" in raw
        with pytest.raises(http.client.IncompleteRead):
            post(server)


def test_raw_replies_are_served_as_they_are() -> None:
    reply = ServerReply(status=502, headers={"Content-Type": "text/html"}, body=b"<html>")
    stream = ServerReply(events=(b"data: 1\n\n", {"type": "ping"}), line_end="\r\n")
    with MessagesServer([reply, stream]) as server:
        response = post(server)
        assert (response.status, response.getheader("content-type"), told(response)) == (
            502,
            "text/html",
            b"<html>",
        )
        assert told(post(server)) == b'data: 1\n\nevent: ping\r\ndata: {"type": "ping"}\r\n\r\n'


def test_a_stalled_reply_goes_on_when_released() -> None:
    with MessagesServer([ServerReply(events=(b"data: 1\n\n",), stall_after=0)]) as server:
        server.release()
        assert told(post(server)) == b"data: 1\n\n"


def test_leaving_ends_a_stalled_reply() -> None:
    with MessagesServer([ServerReply(events=(b"data: 1\n\n",), stall_after=1)]) as server:
        connection = http.client.HTTPConnection(server.base_url.removeprefix("http://"), timeout=5)
        connection.request("POST", "/v1/messages", json.dumps(GREETING), {"x-api-key": "secret"})
        assert connection.getresponse().read(9) == b"data: 1\n\n"
    connection.close()


def test_a_server_that_is_not_running_has_no_address() -> None:
    with pytest.raises(ConfigurationError, match="inside `with`"):
        _ = MessagesServer().base_url
    with MessagesServer() as server, pytest.raises(ConfigurationError, match="already"):
        server.__enter__()


def test_a_script_that_raises_is_told_to_its_client_at_once() -> None:
    def script(sent: dict[str, Any]) -> str:
        return str(sent["no such key"])

    with MessagesServer(script) as server:
        failure = ask_on_thread(model_at(server))[0].failure
    assert failure.error_class == "invalid_request"
    assert "the script failed on request 1 (KeyError: 'no such key')" in str(failure)
