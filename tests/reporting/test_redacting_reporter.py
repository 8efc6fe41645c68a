"""RedactingReporter and the writer's `redact`: what reaches a sink, and what is said of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.agent import Agent
from agentkit_loop.content import AppendText, BeginPart, CommitPart, TextPart
from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError, RedactionError
from agentkit_loop.events import (
    AgentEvent,
    ContentDelta,
    CustomEvent,
    RunFinished,
    ToolResultReceived,
    UsageUpdated,
)
from agentkit_loop.observers import FailurePolicy, LoopObserver, Observer
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall, ScriptedModel
from agentkit_loop.tools import tool
from agentkit_reporting import (
    JsonlReporter,
    OwnPattern,
    RedactingReporter,
    Redactor,
    StdoutReporter,
    TranscriptReporter,
    read_events,
)
from agentkit_reporting.accounting import account_of
from tests.reporting.redaction_samples import ANTHROPIC, GITHUB, HUNTER, OPENAI

MASKED = "sk-ant-[redacted:anthropic_key]"


def environment() -> str:
    """Show the environment."""
    return f"HOME=/root\nDB_PASSWORD={HUNTER}\nGITHUB={GITHUB}\n"


def run(*observers: Observer, chunk_chars: int = 3) -> None:
    """Run an agent whose user, model and tools all show a secret."""
    reply = Reply(
        text=f"I use {ANTHROPIC} now.",
        reasoning=f"The key is {ANTHROPIC}, I think.",
        calls=(ScriptedCall(name="environment", input={}),),
        chunk_chars=chunk_chars,
    )
    done = Reply(text=f"Done with {OPENAI}", chunk_chars=chunk_chars)
    model = ScriptedModel([reply, done])
    with Agent(model, tools=[tool(environment)], observers=observers) as agent:
        agent.run(f"my key is {ANTHROPIC}")


def shows_secret(text: str) -> bool:
    return any(secret[12:] in text for secret in (ANTHROPIC, OPENAI, GITHUB)) or HUNTER in text


# --- the adapter


@pytest.mark.parametrize("chunk_chars", [1, 3, 10, 200])
def test_what_is_behind_gets_every_event_once_in_order_and_no_secret(chunk_chars: int) -> None:
    open_events, scrubbed = EventRecorder(), EventRecorder()
    reporter = RedactingReporter(scrubbed)
    run(open_events, reporter, chunk_chars=chunk_chars)
    assert [(event.seq, event.type) for event in scrubbed.events] == [
        (event.seq, event.type) for event in open_events.events
    ]
    assert shows_secret(repr(open_events.events))
    assert not shows_secret(repr(scrubbed.events))
    receipt = reporter.redactor.receipt()
    assert set(receipt) == {"anthropic_key", "openai_key", "github_token", "keyed_secret"}
    (closing,) = [event for event in scrubbed.events if isinstance(event, RunFinished)]
    assert closing.unknown_fields == {"redaction_receipt": receipt}
    marked = [event for event in scrubbed.events if "redactions" in (event.unknown_fields or {})]
    assert sum(event.unknown_fields["redactions"] for event in marked) == sum(receipt.values())  # type: ignore[index] # they have one
    assert reporter.account().redacted == len(marked)


def test_a_terminal_and_a_transcript_may_be_wrapped() -> None:
    page, transcript = io.StringIO(), TranscriptReporter()
    run(RedactingReporter(StdoutReporter(page, colour=False)), RedactingReporter(transcript))
    assert not shows_secret(page.getvalue())
    assert not shows_secret(transcript.text())
    assert MASKED in page.getvalue()
    assert MASKED in transcript.text()


def test_it_wants_what_the_one_behind_it_wants_and_what_that_needs() -> None:
    class Results(LoopObserver):
        wants = (ToolResultReceived, UsageUpdated)

        def __init__(self) -> None:
            self.seen: list[AgentEvent] = []

        def handle_event(self, event: AgentEvent) -> None:
            self.seen.append(event)

    class Pieces(Results):
        wants = (AppendText,)  # type: ignore[assignment] # another choice

    results, pieces = Results(), Pieces()
    assert RedactingReporter(results).wants == Results.wants
    adapters = [RedactingReporter(results), RedactingReporter(pieces)]
    assert BeginPart in adapters[1].wants
    assert ContentDelta not in adapters[1].wants
    run(*adapters)
    assert {type(event) for event in results.seen} == {ToolResultReceived, UsageUpdated}
    assert {type(event.delta) for event in pieces.seen if isinstance(event, ContentDelta)} == {AppendText}
    assert not shows_secret(repr((results.seen, "".join(event.delta.chunk for event in pieces.seen))))  # type: ignore[attr-defined] # pieces
    assert [adapter.account().received for adapter in adapters] == [len(results.seen), len(pieces.seen)]


def test_what_the_one_behind_raises_is_raised_and_counted() -> None:
    def refuse(event: AgentEvent) -> None:
        if isinstance(event, CustomEvent) and event.data == 2:
            raise OSError("full")

    reporter = RedactingReporter(refuse)
    emitter = EventEmitter([reporter], policy=FailurePolicy.ACCUMULATE)
    for number in (1, 2, 3):
        emitter.emit(CustomEvent(name="x", data=number))
    (failure,) = emitter.take_errors()
    assert isinstance(failure.error, OSError)
    account = reporter.account()
    assert (account.received, account.delivered, account.failed) == (3, 2, 1)
    assert not account.is_complete


def test_interrupts_pass_through_it() -> None:
    def interrupt(event: AgentEvent) -> None:
        raise KeyboardInterrupt(event.type)

    with pytest.raises(KeyboardInterrupt):
        EventEmitter([RedactingReporter(interrupt)]).emit(CustomEvent(name="x"))


def test_what_cannot_be_scrubbed_reaches_nobody_and_the_run_goes_on() -> None:
    seen: list[Any] = []
    deep: Any = "zzz"
    for _ in range(5_000):
        deep = [deep]
    reporter = RedactingReporter(
        lambda event: seen.append(getattr(event, "data", None)), [OwnPattern("x", "zzz")]
    )
    emitter = EventEmitter([reporter], policy=FailurePolicy.ACCUMULATE)
    emitter.emit(CustomEvent(name="x", data="zzz"))
    event = CustomEvent(name="y")
    object.__setattr__(event, "data", deep)  # no loop tells such a value, and a log of one is a bad line
    with pytest.raises(RedactionError, match="withheld because scrubbing it raised RecursionError"):
        reporter.handle_event(event)
    emitter.emit(CustomEvent(name="x", data=1))
    assert seen == ["[redacted:x]", 1]
    assert str(reporter.account()) == "incomplete: 2 of 3 (1 failed)"


def test_flush_and_close_reach_through_it_and_say_whether_all_arrived(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    inner = JsonlReporter(path, redact=False)
    with RedactingReporter(RedactingReporter(inner)) as reporter:
        EventEmitter([reporter]).emit(CustomEvent(name="x", data=ANTHROPIC))
        assert reporter.flush() is True
        assert reporter.flush(1.0) is True
    assert reporter.close() is True
    assert reporter.close(1.0) is True
    assert str(reporter.account()) == "complete: 1 of 1"
    assert [event.data for event in read_events(path, strict=True)] == [MASKED]  # type: ignore[attr-defined] # one
    assert account_of(reporter).inner[0].name == "RedactingReporter"
    with pytest.raises(LogError, match="while the writer is closed"):
        inner.handle_event(next(iter(read_events(path))))


def test_what_cannot_be_wrapped_and_options_beside_a_redactor_are_refused() -> None:
    async def handle(event: AgentEvent) -> None:
        """Look at nothing."""

    with pytest.raises(ConfigurationError, match="has an async handler"):
        RedactingReporter(handle)
    with pytest.raises(ConfigurationError, match="options refused beside a Redactor"):
        RedactingReporter(print, Redactor(), mode="drop")
    with pytest.raises(ConfigurationError, match="options refused beside a Redactor"):
        RedactingReporter(print, Redactor(), fail_closed=False)


# --- the writer


def test_a_log_holds_no_secret_unless_that_is_wanted(tmp_path: Path) -> None:
    plain, scrubbed = tmp_path / "plain.jsonl", tmp_path / "scrubbed.jsonl"
    run(JsonlReporter(plain, redact=False), JsonlReporter(scrubbed))
    assert shows_secret(plain.read_text())
    assert not shows_secret(scrubbed.read_text())
    both = zip(read_events(plain, strict=True), read_events(scrubbed, strict=True), strict=True)
    assert all((one.seq, one.type) == (other.seq, other.type) for one, other in both)
    last = json.loads(scrubbed.read_text().splitlines()[-1])
    assert last["type"] == "run_finished"
    assert last["payload"]["redaction_receipt"]["github_token"] == 1


def test_a_log_takes_rules_or_a_redactor_of_ones_own(tmp_path: Path) -> None:
    own = Redactor([OwnPattern("name", "ann")])
    reporters = [
        JsonlReporter(tmp_path / "a.jsonl", redact=["email"]),
        JsonlReporter(tmp_path / "b.jsonl", redact=own),
        JsonlReporter(tmp_path / "c.jsonl", redact=False),
    ]
    EventEmitter(reporters).emit(CustomEvent(name="x", data="ann@example.org"))
    told = [next(iter(read_events(reporter.path))).data for reporter in reporters]  # type: ignore[arg-type, attr-defined] # files
    assert told == ["[redacted:email]", "[redacted:name]@example.org", "ann@example.org"]
    assert reporters[1].redactor is own
    assert reporters[2].redactor is None
    with pytest.raises(ConfigurationError, match="rule 'emial' refused"):
        JsonlReporter(tmp_path / "d.jsonl", redact=["emial"])


def test_a_log_without_previews_is_redacted_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with EventEmitter([JsonlReporter(path, deltas="none")]) as emitter:
        for delta in (
            BeginPart("p", "text"),
            AppendText("p", ANTHROPIC),
            CommitPart("p", TextPart(text=ANTHROPIC)),
        ):
            emitter.tell_delta("request-1", delta)
    assert [event.delta for event in read_events(path)] == [  # type: ignore[attr-defined] # deltas
        BeginPart("p", "text"),
        CommitPart("p", TextPart(text=MASKED)),
    ]
