"""Events on their way through a Redactor: what is masked in them, and what survives byte for byte."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit_loop.content import (
    AnyDelta,
    AppendBytes,
    AppendText,
    BeginPart,
    CommitPart,
    CustomPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolSpec,
)
from agentkit_loop.errors import ConfigurationError, RedactionError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalRequired,
    ApprovalResolved,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestFinished,
    ModelRequestStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolCallRequested,
    ToolExecutionStarted,
    ToolResultReceived,
    UnknownEvent,
    UsageUpdated,
)
from agentkit_loop.stamping import stamp
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_reporting import OwnPattern, Redactor, decode_event, encode_event
from agentkit_reporting.redaction.masking import PSEUDONYM_KEY_VARIABLE
from agentkit_reporting.redaction.redactor import MOST_SESSIONS
from tests.reporting.redaction_samples import ANTHROPIC, CARD, GITHUB, HUNTER, JWT, OPENAI, POSITIVES
from tests.strategies import event_lists

MASKED = "sk-ant-[redacted:anthropic_key]"
KEY = "a key that is nobody's"
NOW = dt.datetime(2026, 5, 24, 18, 40, 0, 1, tzinfo=dt.UTC)


def told(event: AgentEvent, seq: int = 1, session_id: str = "ses-1") -> Any:
    stamp(event, session_id, "run-1", "turn-1", seq, NOW)
    return event


def delta(given_delta: AnyDelta, session_id: str = "ses-1") -> ContentDelta:
    event: ContentDelta = told(ContentDelta(request_id="request-1", delta=given_delta), session_id=session_id)
    return event


def through(redactor: Redactor, *deltas: AnyDelta) -> list[Any]:
    return [redactor.event(delta(one)).delta for one in deltas]  # type: ignore[attr-defined] # these are deltas


# --- whole content


@pytest.mark.parametrize(
    "event",
    [
        RunStarted(agent_name="a", model="m", system=f"be {ANTHROPIC}"),
        RunStarted(agent_name="a", model="m", items=(Item.user(f"x {ANTHROPIC}"),)),
        RunStarted(agent_name="a", model="m", metadata={"a": [{"b": ANTHROPIC}]}, parameters={ANTHROPIC: 1}),
        RunStarted(
            agent_name="a", model="m", tools=(ToolSpec(name="t", description=ANTHROPIC, input_schema={}),)
        ),
        InputAccepted(items=(Item.user("hi", ANTHROPIC),)),
        ToolCallRequested(request_id="r", call=ToolCallPart(id="toolu_1", name="t", input={"a": ANTHROPIC})),
        ToolCallRequested(
            request_id="r", call=ToolCallPart(id="toolu_1", name="t", input={}, cut=f'{{"a": "{ANTHROPIC}')
        ),
        ToolExecutionStarted(call_id="c", name="t", edited=True, input={"a": ANTHROPIC}),
        ToolResultReceived(call_id="c", name="t", output=f"KEY={ANTHROPIC}"),
        ToolResultReceived(call_id="c", name="t", output="", error=ErrorInfo(type="E", message=ANTHROPIC)),
        ModelRequestFailed(
            request_id="r", error=ErrorInfo(type="E", message="m", frames=(ANTHROPIC,)), error_class="auth"
        ),
        ApprovalRequired(approval_id="a", call_id="c", summary=f"run({ANTHROPIC})"),
        CustomEvent(name="x", data={"a": {"b": [ANTHROPIC]}}),
        UnknownEvent(type="new", payload={"a": ANTHROPIC}),
        UsageUpdated(request_id="r", model="m", usage=Usage(raw={"a": ANTHROPIC})),
        ContentDelta(
            request_id="r", delta=CommitPart("p", TextPart(text=ANTHROPIC, extra={"a": [ANTHROPIC]}))
        ),
        ContentDelta(request_id="r", delta=CommitPart("p", CustomPart(provider="x", value={"a": ANTHROPIC}))),
    ],
    ids=lambda event: event.type,
)
def test_a_secret_is_masked_wherever_it_stands_and_the_event_says_so(event: AgentEvent) -> None:
    before = copy.deepcopy(told(event))
    scrubbed = Redactor().event(event)
    assert event == before  # it is shared with others
    line = encode_event(scrubbed)
    assert ANTHROPIC[7:].encode() not in line
    assert b"[redacted:anthropic_key]" in line
    written = json.loads(line)["payload"]
    assert written["redactions"] == line.count(b"[redacted:")
    assert decode_event(line) == scrubbed
    assert (scrubbed.seq, scrubbed.session_id, scrubbed.timestamp) == (
        event.seq,
        event.session_id,
        event.timestamp,
    )


@given(event_lists())
@settings(max_examples=60, deadline=None)
def test_one_event_in_is_one_event_out_and_without_a_secret_its_content_is_the_same(
    events: list[AgentEvent],
) -> None:
    redactor = Redactor(["anthropic_key", "jwt"])
    for event in events:
        scrubbed = redactor.event(event)
        assert type(scrubbed) is type(event)
        is_piece = isinstance(event, ContentDelta) and isinstance(event.delta, (AppendText, AppendBytes))
        assert is_piece or scrubbed is event
    assert redactor.receipt() == {}


def test_ids_digests_and_signatures_survive_byte_for_byte() -> None:
    redactor = Redactor(["secrets", "personal"])
    ids = (
        "toolu_01A09q90qw90lq917835lq9",
        "msg_01XFDUDYJgAACzvnptvVoYEL",
        "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
    )
    signature = base64.b64encode(bytes(range(256)) * 3).decode()
    for event in (
        ToolCallRequested(
            request_id="request-1", call=ToolCallPart(id=ids[0], name="t", input={}, wire_id=ids[2])
        ),
        ToolResultReceived(call_id=ids[0], name="t", output="ok"),
        ModelRequestFinished(request_id="request-1", finish_reason="completed", response_id=ids[1]),
        ModelRequestStarted(
            request_id="request-1",
            attempt=1,
            purpose="turn",
            model="m",
            message_count=1,
            digests={"messages": "0" * 64},
        ),
        ContentDelta(
            request_id="request-1",
            delta=CommitPart("p", ReasoningPart(text="I think so", signature=signature, redacted=signature)),
        ),
        ContentDelta(
            request_id="request-1", delta=CommitPart("p", CustomPart(provider="x", value={"id": ids[2]}))
        ),
    ):
        assert redactor.event(told(event)) is event


def test_reasoning_that_was_masked_loses_its_signature() -> None:
    part = ReasoningPart(text=f"use {ANTHROPIC}", signature="c2ln")
    (out,) = through(Redactor(), CommitPart("p", part))
    assert out.part == ReasoningPart(text=f"use {MASKED}")
    item = Item(kind="assistant", parts=(part, TextPart(text="x")), id="item-7")
    event = Redactor().event(told(RunStarted(agent_name="a", model="m", items=(item,))))
    assert event.items[0].parts[0] == out.part  # type: ignore[attr-defined] # a RunStarted
    assert event.items[0].id == "item-7"  # type: ignore[attr-defined] # a RunStarted


def test_the_schema_of_a_tool_may_have_a_password() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}, "token": {"type": "string"}}}
    spec = ToolSpec(name="login", description="log in", input_schema=schema)
    event = told(RunStarted(agent_name="a", model="m", tools=(spec,)))
    assert Redactor().event(event) is event


def test_values_under_secret_keys_are_masked_whole() -> None:
    given_value = {
        "password": HUNTER,
        "a": [{"apiKey": 4711, "x": 1}],
        "token": None,
        "secret": "",
        "pwd": True,
    }
    assert Redactor().value(given_value) == {
        "password": "[redacted:keyed_secret]",
        "a": [{"apiKey": "[redacted:keyed_secret]", "x": 1}],
        "token": None,
        "secret": "",
        "pwd": True,
    }
    assert Redactor(["jwt"]).value(given_value) is given_value


def test_bytes_and_files_are_looked_into() -> None:
    env = base64.b64encode(f"\x00KEY={ANTHROPIC}\n".encode()).decode()
    masked = base64.b64encode(f"\x00KEY={MASKED}\n".encode()).decode()
    image = base64.b64encode(b"\x89PNG" + bytes(range(256)) * 20).decode()
    output = {
        "raw": {"$bytes": env},
        "parts": {"$parts": [{"kind": "file", "name": "e", "media_type": "text/plain", "data": env}]},
    }
    out = Redactor().value(output)
    assert out["raw"] == {"$bytes": masked}
    assert out["parts"]["$parts"][0]["data"] == masked
    redactor = Redactor()
    parts = (
        FilePart(name="e", media_type="text/plain", data=env),
        MediaPart(media_type="image/png", data=image),
    )
    event = redactor.event(told(InputAccepted(items=(Item.user(*parts),))))
    assert [part.data for part in event.items[0].parts] == [masked, image]  # type: ignore[attr-defined] # as above
    assert redactor.receipt() == {"anthropic_key": 1}


def test_what_was_plain_before_is_looked_at_again() -> None:
    env = base64.b64encode(f"KEY={ANTHROPIC}\n".encode()).decode()
    masked = base64.b64encode(f"KEY={MASKED}\n".encode()).decode()
    plain: dict[str, Any] = {
        "kind": "file",
        "media_type": "text/plain",
        "data": "AAAA",
        "raw": {"$bytes": "AAAA"},
    }
    secret = {**plain, "data": env, "raw": {"$bytes": env}}
    redactor = Redactor()
    for _ in range(2):  # the second time all keys are known
        assert redactor.value([[plain]]) == [[plain]]
        assert redactor.value([[secret]]) == [[{**plain, "data": masked, "raw": {"$bytes": masked}}]]
        assert redactor.value([[{"kind": ANTHROPIC}], 1, None]) == [[{"kind": MASKED}], 1, None]


def test_numbers_are_cards_and_phones_too_where_that_is_chosen() -> None:
    card = int(CARD.replace(" ", ""))
    assert Redactor(["card"]).value({"n": card, "m": 12, "k": True}) == {
        "n": "[redacted:card]",
        "m": 12,
        "k": True,
    }
    assert Redactor().value({"n": card}) == {"n": card}


def test_what_a_newer_version_wrote_is_scrubbed_too() -> None:
    line = (
        encode_event(told(CustomEvent(name="x", data=1)))[:-2] + b',"more":{"a":"%s"}}}' % ANTHROPIC.encode()
    )
    out = Redactor().event(decode_event(line))
    assert out.unknown_fields == {"more": {"a": MASKED}, "redactions": 1}
    call = {"id": "c", "name": "t", "input": {"a": ANTHROPIC}, "newer": 1}
    event = attrs.evolve(
        told(ToolCallRequested(request_id="r", call=ToolCallPart(id="c", name="t", input={"a": ANTHROPIC}))),
        unknown_fields={"call": call},
    )
    assert ANTHROPIC[7:].encode() not in encode_event(Redactor().event(event))


def test_a_redacted_event_that_is_redacted_again_counts_on() -> None:
    first = Redactor().event(told(CustomEvent(name="x", data=[ANTHROPIC, "ann@example.org"])))
    second = Redactor(["secrets", "email"]).event(first)
    assert second.data == [MASKED, "[redacted:email]"]  # type: ignore[attr-defined] # a CustomEvent
    assert second.unknown_fields == {"redactions": 2}
    assert Redactor().event(second) is second


# --- streams


@pytest.mark.parametrize("kind", ["text", "reasoning"])
@given(st.sampled_from(POSITIVES), st.lists(st.integers(1, 30), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_pieces_are_a_beginning_of_the_committed_text(
    kind: Any, sample: tuple[str, str, str], sizes: list[int]
) -> None:
    text = f"so: {sample[1]} and so on"
    whole = TextPart(text=text) if kind == "text" else ReasoningPart(text=text, signature="c2ln")
    cut: list[AnyDelta] = []
    at = 0
    while at < len(text):
        size = sizes[len(cut) % len(sizes)]
        cut.append(AppendText("p", text[at : at + size]))
        at += size
    begun, *shown, committed = through(Redactor(), BeginPart("p", kind), *cut, CommitPart("p", whole))
    assert begun == BeginPart("p", kind)
    assert [type(one) for one in shown] == [AppendText] * len(cut)
    preview = "".join(one.chunk for one in shown)
    assert sample[2] not in preview
    assert committed.part.text.startswith(preview)


@given(st.sampled_from(POSITIVES), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_the_pieces_of_a_calls_input_show_no_secret(sample: tuple[str, str, str], size: int) -> None:
    _, text, secret = sample
    given_input = {"command": f"echo {text} x", "env": {"password": HUNTER}}
    raw = json.dumps(given_input)
    cut = [AppendText("p", raw[at : at + size]) for at in range(0, len(raw), size)]
    part = ToolCallPart(id="toolu_1", name="bash", input=given_input)
    _, *shown, committed = through(Redactor(), BeginPart("p", "tool_call"), *cut, CommitPart("p", part))
    preview = json.loads("".join(one.chunk for one in shown))
    assert preview == committed.part.input
    assert secret not in str(preview)
    assert preview["env"] == {"password": "[redacted:keyed_secret]"}


@given(st.sampled_from(POSITIVES), st.integers(1, 30), st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_bytes_in_pieces_show_no_secret_and_others_come_back_as_they_were(
    sample: tuple[str, str, str], size: int, noise: bytes
) -> None:
    secret = sample[2].encode()
    raw = noise + b"\xff\n" + sample[1].encode() + b"\n\x00 "
    cut = [AppendBytes("p", raw[at : at + size]) for at in range(0, len(raw), size)]
    _, *shown = through(Redactor(), BeginPart("p", "file"), *cut)
    assert all(isinstance(one, AppendBytes) for one in shown)
    assert secret not in b"".join(one.chunk for one in shown)
    plain = [AppendBytes("p", noise.replace(b"b", b"").replace(b"B", b""))] * 3
    assert through(Redactor(["jwt"]), BeginPart("p", "file"), *plain)[1:] == plain


def test_parts_and_sessions_that_interleave_have_each_their_own_stream() -> None:
    redactor = Redactor()
    got: dict[tuple[str, str], str] = {}
    places = [(session, part) for session in ("ses-1", "ses-2") for part in ("p", "q")]
    for session, part in places:
        redactor.event(delta(BeginPart(part, "text"), session))
    for number in range(0, len(ANTHROPIC), 3):
        for session, part in places:
            text = (
                ANTHROPIC
                if part == "p"
                else f"plain {session} text, as long as you like it, and then some more"
            )
            out: Any = redactor.event(delta(AppendText(part, text[number : number + 3]), session))
            got[session, part] = got.get((session, part), "") + out.delta.chunk
    assert got["ses-1", "p"] == got["ses-2", "p"] == MASKED
    assert got["ses-2", "q"] == "plain ses-2 text, as long as you like it, and then some more"


def test_a_piece_without_a_secret_is_the_same_event() -> None:
    redactor = Redactor()
    through(redactor, BeginPart("p", "text"))
    for text in ("The quick ", "brown fox ", "", "é\u2028", "x" * 5_000):
        event = delta(AppendText("p", text))
        assert redactor.event(event) is event


def test_a_request_that_is_made_again_begins_anew() -> None:
    for end in (
        ModelRequestFailed(
            request_id="request-1", error=ErrorInfo(type="E", message="m"), error_class="server"
        ),
        ModelRequestStarted(
            request_id="r", attempt=2, purpose="turn", model="m", message_count=1, digests={}
        ),
        BeginPart("p", "text"),
        CommitPart("p", TextPart(text="x")),
    ):
        redactor = Redactor()
        through(redactor, BeginPart("p", "text"), AppendText("p", "sk-ant-"), AppendText("p", "abc"))
        redactor.event(delta(end) if isinstance(end, msgspec.Struct) else told(end))
        assert [one.chunk for one in through(redactor, AppendText("p", "def"))] == ["def"]


def test_base64_in_pieces_is_withheld_and_what_never_was_json_is_a_text() -> None:
    _, withheld = through(Redactor(), BeginPart("p", "file"), AppendText("p", "AAAA"))
    assert withheld == AppendText("p", "")
    _, *shown = through(
        Redactor(), BeginPart("p", "custom"), AppendText("p", "So: "), AppendText("p", ANTHROPIC + " x")
    )
    assert "".join(one.chunk for one in shown) == f"So: {MASKED} x"
    assert through(Redactor(), AppendText("nobody began it", f"{ANTHROPIC} x"))[0].chunk == f"{MASKED} x"


def test_a_call_whose_input_never_was_json_shows_no_secret() -> None:
    for kind, text in (("tool_call", ANTHROPIC), ("custom", f"So {ANTHROPIC}"), ("structured", f"-{OPENAI}")):
        for size in (1, 2, 3, 7, 13, 400):
            cut = [AppendText("p", f"{text} x"[at : at + size]) for at in range(0, len(text) + 2, size)]
            _, *shown = through(Redactor(), BeginPart("p", kind), *cut)  # type: ignore[arg-type] # these are kinds
            preview = "".join(one.chunk for one in shown)
            assert preview == Redactor().text(f"{text} x")
    (committed,) = through(
        Redactor(), CommitPart("p", ToolCallPart(id="c", name="t", input={}, cut=ANTHROPIC))
    )
    assert committed.part.cut == MASKED


def test_of_very_many_sessions_the_oldest_is_forgotten_and_shown_no_more() -> None:
    redactor = Redactor()
    for number in range(MOST_SESSIONS + 1):
        redactor.event(delta(BeginPart("p", "text"), f"ses-{number}"))
        out: Any = redactor.event(delta(AppendText("p", "sk-ant-"), f"ses-{number}"))
        assert out.delta.chunk == "sk-ant-"
    assert len(redactor._streams) == MOST_SESSIONS
    first: Any = redactor.event(delta(AppendText("p", ANTHROPIC[7:]), "ses-0"))
    last: Any = redactor.event(delta(AppendText("p", ANTHROPIC[7:]), f"ses-{MOST_SESSIONS}"))
    assert first.delta.chunk == ""
    assert last.delta.chunk == "[redacted:anthropic_key]"


def test_sessions_that_ended_are_followed_no_more() -> None:
    redactor = Redactor()
    ends = (
        RunStarted(agent_name="a", model="m"),
        RunFinished(outcome="completed", usage=Usage()),
        RunFailed(error=ErrorInfo(type="E", message="m"), usage=Usage()),
        RunCancelled(reason="r", usage=Usage()),
    )
    for number, end in enumerate(ends):
        redactor.event(delta(BeginPart("p", "text"), f"ses-{number}"))
        redactor.event(told(end, session_id=f"ses-{number}"))
    assert redactor._streams == {}


# --- modes


def test_what_is_dropped_leaves_nothing() -> None:
    dropping = Redactor(mode="drop")
    assert dropping.value({"a": f"x {ANTHROPIC} y", "password": HUNTER}) == {
        "a": "x sk-ant- y",
        "password": None,
    }
    event = dropping.event(told(CustomEvent(name="x", data=ANTHROPIC)))
    assert event.unknown_fields == {"redactions": 1}


def test_equal_secrets_have_equal_pseudonyms_under_one_key() -> None:
    one, again = Redactor(mode="pseudonym", key=KEY), Redactor(mode="pseudonym", key=KEY.encode())
    first = one.text(f"{OPENAI} {GITHUB} {OPENAI}").split()
    assert first[0] == first[2] == again.text(OPENAI)
    assert first[0].startswith("sk-[redacted:openai_key:")
    assert Redactor(mode="pseudonym", key=KEY + "!").text(OPENAI) != first[0]
    assert one.value({"password": HUNTER})["password"] == one.text(f'"password": "{HUNTER}"')[13:-1]
    shown = through(one, BeginPart("p", "text"), *(AppendText("p", letter) for letter in f"{OPENAI} x"))
    assert "".join(piece.chunk for piece in shown[1:]) == f"{first[0]} x"


def test_the_key_of_pseudonyms_is_shown_nowhere() -> None:
    redactor = Redactor(mode="pseudonym", key=KEY)
    event = redactor.event(told(CustomEvent(name="x", data=OPENAI)))
    assert KEY not in f"{redactor!r} {redactor._masking!r} {event!r} {redactor.receipt()!r}"
    for store in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="may hold a key") as refused:
            store(redactor)
        assert KEY not in str(refused.value)
    for wrong in ("short", b"short", 5):
        with pytest.raises(ConfigurationError) as bad:
            Redactor(mode="pseudonym", key=wrong)  # type: ignore[arg-type] # one of them
        assert "short" not in str(bad.value).replace("too short", "")
    with pytest.raises(ConfigurationError, match="a key refused with mode='mask'"):
        Redactor(key=KEY)
    with pytest.raises(ConfigurationError, match="mode='hide' refused"):
        Redactor(mode="hide")  # type: ignore[arg-type] # that is the point


def test_the_key_of_pseudonyms_comes_from_the_environment_where_no_argument_gives_it() -> None:
    script = (
        "from agentkit_reporting import Redactor\nprint(Redactor(mode='pseudonym').text('pwd=' + 'hunter2'))"
    )
    plain = {name: value for name, value in os.environ.items() if name != PSEUDONYM_KEY_VARIABLE}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], env={**plain, **more}, capture_output=True, text=True, check=False
        )

    assert run(**{PSEUDONYM_KEY_VARIABLE: KEY}).stdout.strip() == Redactor(mode="pseudonym", key=KEY).text(
        "pwd=hunter2"
    )
    assert "its key is missing; give key= or AGENTKIT_PSEUDONYM_KEY of at least 16 bytes" in run().stderr


# --- arguments


def test_with_an_allowlist_other_arguments_are_masked() -> None:
    redactor = Redactor(keep_arguments=["path", "bash.timeout"])
    given_input = {"path": f"a/{ANTHROPIC}", "content": "private", "timeout": 5}
    other = {"path": f"a/{MASKED}", "content": "[redacted:argument]", "timeout": "[redacted:argument]"}
    call = ToolCallPart(id="c", name="write", input=given_input)
    assert redactor.event(told(ToolCallRequested(request_id="r", call=call))).call.input == other  # type: ignore[attr-defined] # one
    own = redactor.event(told(ToolExecutionStarted(call_id="c", name="bash", edited=True, input=given_input)))
    assert own.input == {**other, "timeout": 5}  # type: ignore[attr-defined] # as above
    answered = ApprovalResolved(approval_id="a", call_id="c", approved=True, edited=True, input=given_input)
    assert redactor.event(told(answered)).input == other  # type: ignore[attr-defined] # as above
    asked = ApprovalRequired(approval_id="a", call_id="c", summary="write(private)")
    assert redactor.event(told(asked)).summary == "[redacted:argument]"  # type: ignore[attr-defined] # as above
    cut = ToolCallPart(id="c", name="write", input={}, cut='{"content": "priv')
    (committed,) = through(redactor, CommitPart("p", cut))
    assert committed.part.cut == "[redacted:argument]"
    assert through(redactor, BeginPart("q", "tool_call"), AppendText("q", '{"con'))[1] == AppendText("q", "")
    result = told(ToolResultReceived(call_id="c", name="write", output="private"))
    assert redactor.event(result) is result  # the list is of arguments
    with pytest.raises(ConfigurationError, match="is one text; give a list"):
        Redactor(keep_arguments="path")


# --- receipts, and what cannot be scrubbed


def test_a_runs_closing_event_has_the_receipt_of_the_run() -> None:
    redactor = Redactor(["secrets", "email"])
    for number, text in enumerate([ANTHROPIC, f"{OPENAI} {JWT}", "plain", f"{OPENAI} ann@example.org"]):
        redactor.event(told(CustomEvent(name="x", data=text), number + 1))
    redactor.event(told(CustomEvent(name="x", data=OPENAI), 1, "ses-2"))
    closing = told(RunFinished(outcome="completed", usage=Usage()), 5)
    out = redactor.event(closing)
    counts = {"anthropic_key": 1, "email": 1, "jwt": 1, "openai_key": 2}
    assert out.unknown_fields == {"redaction_receipt": counts}
    assert attrs.evolve(out, unknown_fields=None) == closing
    assert redactor.receipt() == {**counts, "openai_key": 3}
    redactor.event(told(CustomEvent(name="x", data=OPENAI), 6))  # of a run that is never ended
    redactor.event(told(RunStarted(agent_name="a", model="m"), 7))
    next_run = told(RunFinished(outcome="completed", usage=Usage()), 9)
    assert redactor.event(next_run) is next_run
    assert Redactor().event(out) is out


class Refusing(OwnPattern):
    """A pattern that cannot be looked for: its own code raises, and quotes what it was given."""

    def rule(self) -> Any:
        def refuse(secret: str) -> int:
            raise ValueError(f"cannot look at {secret}")

        return attrs.evolve(Redactor(["us_ssn"])._rules.rules[0], name="refusing", accepted=refuse)


SSN = "123-45-" + "6789"


def test_what_cannot_be_scrubbed_is_not_passed_on() -> None:
    redactor = Redactor([Refusing("refusing", "x")])
    for event in (told(CustomEvent(name="x", data=SSN), 7), delta(CommitPart("p", TextPart(text=SSN)))):
        with pytest.raises(RedactionError) as refused:
            redactor.event(event)
        error = refused.value
        assert "withheld because scrubbing it raised ValueError" in str(error)
        assert SSN not in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None
    through(redactor, BeginPart("p", "text"))
    with pytest.raises(RedactionError):
        through(redactor, AppendText("p", f"{SSN} "))
    assert through(redactor, AppendText("p", "and on")) == [
        AppendText("p", "")
    ]  # nobody knows what was before it


def test_a_piece_that_an_interrupt_tears_is_followed_by_nothing() -> None:
    def interrupt(secret: str) -> int:
        raise KeyboardInterrupt(len(secret))

    class Interrupted(Refusing):
        def rule(self) -> Any:
            return attrs.evolve(super().rule(), accepted=interrupt)

    redactor = Redactor([Interrupted("refusing", "x")])
    through(redactor, BeginPart("p", "text"))
    with pytest.raises(KeyboardInterrupt):
        through(redactor, AppendText("p", f"{SSN} "))
    assert through(redactor, AppendText("p", "and on")) == [AppendText("p", "")]


def test_who_wants_it_gets_unscrubbed_what_cannot_be_scrubbed_and_a_count() -> None:
    redactor = Redactor([Refusing("refusing", "x")], fail_closed=False)
    event = told(CustomEvent(name="x", data=SSN))
    assert redactor.event(event) is event
    assert redactor.receipt() == {"unscrubbed": 1}


def test_threads_share_a_redactor_with_a_session_each() -> None:
    redactor, wrong = Redactor(), []

    def run(session: str) -> None:
        for _ in range(30):
            redactor.event(delta(BeginPart("p", "text"), session))
            shown = ""
            for letter in f"{ANTHROPIC} x":
                out: Any = redactor.event(delta(AppendText("p", letter), session))
                shown += out.delta.chunk
            if shown != f"{MASKED} x":
                wrong.append(shown)

    threads = [threading.Thread(target=run, args=(f"ses-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert redactor.receipt() == {"anthropic_key": 120}
