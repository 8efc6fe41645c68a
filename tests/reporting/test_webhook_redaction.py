"""What leaves the process by a webhook: without secrets, unless the host says otherwise; and what its texts tell."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import RedactionError
from agentkit_loop.events import ContentDelta
from agentkit_loop.values import JSON
from agentkit_reporting import (
    EventDispatcher,
    OwnPattern,
    Redactor,
    TopicPayload,
    WebhookSink,
    pagerduty_template,
    slack_template,
)
from tests.reporting.hook_server import HookServer
from tests.reporting.topics import payload

KEY = "sk-ant-api03-" + "a1B2" * 22 + "-AA"


def posted(dispatcher: EventDispatcher, pattern: str, server: HookServer, **options: Any) -> WebhookSink:
    sink = WebhookSink(server.url, **{"timeout_s": 20.0, "close_timeout_s": 30.0, **options})
    dispatcher.subscribe(pattern, sink)
    return sink


def call_with_a_password(dispatcher: EventDispatcher) -> None:
    with EventEmitter([dispatcher]).run() as run, run.tool_call("t", {"password": "hunter2", "n": 1}) as call:
        call.result(f"the key is {KEY}")


def test_secrets_are_masked_and_handlers_of_this_process_see_what_is_there() -> None:
    seen: list[TopicPayload] = []
    with HookServer() as server, EventDispatcher() as dispatcher:
        sink = posted(dispatcher, "**", server)
        dispatcher.subscribe("**", seen.append)
        call_with_a_password(dispatcher)
        dispatcher.emit("mine", payload(1, note=f"it is {KEY}", api_key="abcdefgh"))
        assert dispatcher.flush(30.0)
        sent = server.bodies
    assert not re.search("hunter2|a1B2|abcdefgh", str(sent))
    assert "hunter2" in str(seen)
    assert KEY in str(seen)
    invoked = next(each["payload"] for each in sent if each["topic"] == "agent.tool_invoked")
    assert (invoked["tool"], invoked["args"]["n"]) == ("t", 1)
    assert invoked["args"]["password"].startswith("[redacted")
    mine = sent[-1]["payload"]
    assert (mine["session_id"], mine["timestamp"], mine["number"]) == (
        payload()["session_id"],
        payload()["timestamp"],
        1,
    )
    assert sink.account().is_complete
    assert sink.account().redacted >= 3


def test_a_secret_that_is_streamed_in_pieces_is_in_none_of_them() -> None:
    with HookServer() as server, EventDispatcher() as dispatcher:
        posted(dispatcher, "agent.content_delta", server)
        emitter = EventEmitter([dispatcher])
        text = f"before {KEY} after and more words"
        emitter.emit(ContentDelta(request_id="q", delta=BeginPart(part_id="p", kind="text")))
        for at in range(0, len(text), 10):
            emitter.emit(
                ContentDelta(request_id="q", delta=AppendText(part_id="p", chunk=text[at : at + 10]))
            )
        emitter.emit(ContentDelta(request_id="q", delta=CommitPart(part_id="p", part=TextPart(text=text))))
        assert dispatcher.flush(30.0)
        sent = server.bodies
    told = "".join(each["payload"]["delta"].get("chunk", "") for each in sent)
    assert told.startswith("before sk-ant-[redacted")
    assert "a1B2" not in str(sent)


@pytest.mark.parametrize(
    ("redact", "shown"),
    [
        (False, ("hunter2", KEY, "4711")),
        ([OwnPattern(name="number", pattern="4711")], ("hunter2", KEY)),
        (Redactor(["secrets", OwnPattern(name="number", pattern="4711")]), ()),
        (True, ("4711",)),
    ],
    ids=["none", "own", "redactor", "default"],
)
def test_the_host_says_what_is_masked(redact: Any, shown: tuple[str, ...]) -> None:
    with HookServer() as server, EventDispatcher() as dispatcher:
        posted(dispatcher, "a", server, redact=redact)
        dispatcher.emit("a", payload(password="hunter2", text=KEY, other="no 4711"))  # noqa: S106 - to be masked
        assert dispatcher.flush(30.0)
        sent = str(server.bodies)
    found = tuple(each for each in ("hunter2", KEY, "4711") if each in sent)
    assert set(shown) <= set(found)
    assert redact is not True or found == shown
    assert not isinstance(redact, Redactor) or found == ()


def test_of_arguments_only_those_that_are_allowed_are_posted() -> None:
    with HookServer() as server, EventDispatcher() as dispatcher:
        posted(dispatcher, "agent.tool_invoked", server, redact=Redactor(keep_arguments=["n"]))
        with EventEmitter([dispatcher]).run() as run, run.tool_call("t", {"n": 1, "diary": "dear"}) as call:
            call.result("ok")
        assert dispatcher.flush(30.0)
        (sent,) = server.bodies
    assert sent["payload"]["args"]["n"] == 1
    assert "dear" not in str(sent)


def test_what_a_handler_adds_before_it_passes_a_payload_on_is_posted_and_masked() -> None:
    with HookServer() as server, EventDispatcher() as dispatcher:
        sink = WebhookSink(server.url, close_timeout_s=30.0)

        @dispatcher.on("agent.tool_invoked")
        def passes_on(given: TopicPayload) -> None:
            given["environment"] = "prod"
            given["token"] = KEY
            del given["request_id"]
            sink(given)

        call_with_a_password(dispatcher)
        assert sink.close()
        (sent,) = server.bodies
    assert sent["payload"]["environment"] == "prod"
    assert "request_id" not in sent["payload"]
    assert not re.search("hunter2|a1B2", str(sent))


def test_what_cannot_be_scrubbed_is_not_posted_and_counted() -> None:
    with HookServer() as server:
        sink = WebhookSink(server.url, redact=_Failing(), close_timeout_s=30.0)
        with pytest.raises(RedactionError, match="payload withheld because scrubbing it raised ValueError"):
            sink(payload(note=KEY))
        assert sink.close() is False
        assert server.sent == []
    assert (sink.account().received, sink.account().failed) == (1, 1)


class _Failing(Redactor):
    """One whose rules do not work."""

    def value(self, value: JSON) -> JSON:
        """Fail."""
        raise ValueError(str(value))


# --- what the texts tell

ENDED = {
    "outcome": "completed",
    "cost": 0.2,
    "currency": "USD",
    "costs": {"USD": "0.2"},
    "duration_ms": 12_340.0,
}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (ENDED, ": completed, 0.2 USD, 12.3 s"),
        ({**ENDED, "cost": None, "costs": {}, "outcome": "failed"}, ": failed, cost unknown, 12.3 s"),
        ({**ENDED, "costs": {"USD": "0.2", "EUR": "1"}}, ": completed, 0.2 USD + 1 EUR, 12.3 s"),
        ({"cost": 0.5, "steps": 1}, ": cost 0.5"),
        ({}, ""),
    ],
    ids=["all", "no price", "two currencies", "the seed's", "none"],
)
def test_the_texts_of_an_ending_say_how_it_went(facts: dict[str, Any], told: str) -> None:
    with HookServer() as server:
        with EventDispatcher() as dispatcher:
            posted(dispatcher, "agent.*", server, template=slack_template())
            dispatcher.emit("agent.session_complete", payload(**facts))
            dispatcher.emit("agent.other", payload(**facts))
        with EventDispatcher() as dispatcher:
            posted(dispatcher, "agent.*", server, template=pagerduty_template("R"))
            dispatcher.emit("agent.session_complete", payload(**facts))
        slack, other, pagerduty = server.bodies
    assert slack["text"] == f"*agent.session_complete* in session ses-1{told}"
    assert other["text"] == "*agent.other* in session ses-1"
    assert pagerduty["payload"]["summary"] == f"agent.session_complete in session ses-1{told}"


def test_what_an_ending_says_is_escaped_in_slack() -> None:
    with HookServer() as server, EventDispatcher() as dispatcher:
        posted(dispatcher, "agent.*", server, template=slack_template())
        dispatcher.emit("agent.session_complete", payload(outcome="<!channel>"))
        assert dispatcher.flush(30.0)
        (body,) = server.bodies
    assert body["text"].endswith(": &lt;!channel&gt;")


def test_payloads_that_the_end_leaves_are_told_by_their_cause(caplog: pytest.LogCaptureFixture) -> None:
    with HookServer() as server:
        server.gate.clear()
        sink = WebhookSink(server.url)
        for number in range(400):
            sink(payload(number))
        server.entered.wait()
        assert sink.close(0.01) is False
        server.gate.set()
    (said,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert "they could not be delivered before the end" in said
    assert "overflow" not in said
