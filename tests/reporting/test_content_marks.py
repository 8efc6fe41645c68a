"""Logs without content: what stays, what is replaced, and that nothing that was said is anywhere in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.content import (
    AppendText,
    CommitPart,
    FilePart,
    Item,
    MediaPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from agentkit_loop.errors import ConfigurationError
from agentkit_loop.events import (
    AgentEvent,
    ApprovalResolved,
    ContentDelta,
    CustomEvent,
    InputAccepted,
    ModelRequestFailed,
    ModelRequestStarted,
    RunStarted,
    ToolCallRequested,
    ToolResultReceived,
    UnknownEvent,
    UsageUpdated,
    Warning,  # noqa: A004 - the event of that name
)
from agentkit_loop.usage import ErrorInfo, Usage
from agentkit_loop.values import JSON
from agentkit_reporting import (
    ContentRedactor,
    JsonlReporter,
    RedactingReporter,
    UsageReporter,
    check_log,
    encode_event,
    read_events,
)
from agentkit_reporting.redaction.content_marks import Withheld
from tests.cli.sample_logs import PROMPT, write_fixed
from tests.reporting.all_views import AllViews
from tests.strategies import events

SAID = "zebra"
HEADER: dict[str, Any] = {
    "session_id": "s",
    "run_id": "r",
    "seq": 3,
    "timestamp": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
}
ERROR = ErrorInfo(type="ValueError", message=f"no {SAID}", frames=("app/tool.py:3 in look",))


def without(event: AgentEvent, content: Withheld = "metadata") -> dict[str, object]:
    """Return the payload of an event without its content, by field."""
    told = ContentRedactor(content).event(event)
    return {name: getattr(told, name) for name in attrs.fields_dict(type(told)) if name not in HEADER}


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_a_log_without_content_holds_nothing_that_was_said_and_still_conforms(
    tmp_path: Path, content: Withheld
) -> None:
    write_fixed(tmp_path / "whole.jsonl")
    whole = list(read_events(tmp_path / "whole.jsonl"))
    reporter = JsonlReporter(tmp_path / "told.jsonl", redact=ContentRedactor(content))
    for event in whole:
        reporter.handle_event(event)
    reporter.close()
    text = (tmp_path / "told.jsonl").read_text()
    assert PROMPT not in text
    for said in ("parser", "careful", "edit the", "return", "src/"):
        assert said not in text.lower()
    found = check_log([tmp_path / "told.jsonl"])
    assert found.fault_count == 0
    told = list(read_events(tmp_path / "told.jsonl"))
    assert [(event.seq, event.type, event.timestamp) for event in told] == [
        (event.seq, event.type, event.timestamp) for event in whole
    ]
    assert usage_of(told) == usage_of(whole)


def usage_of(events: Iterable[AgentEvent]) -> UsageReporter:
    usage = UsageReporter(keep_requests=False)
    for event in events:
        usage.handle_event(event)
    return usage


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_every_view_takes_events_without_content(tmp_path: Path, content: Withheld) -> None:
    write_fixed(tmp_path / "whole.jsonl")
    views, redactor = AllViews(tmp_path / "views"), ContentRedactor(content)
    for event in read_events(tmp_path / "whole.jsonl"):
        told = redactor.event(event)
        for observer in views.observers:
            observer.handle_event(told)
    for observer in views.observers:
        if hasattr(observer, "close"):
            observer.close()
    assert PROMPT not in "".join(path.read_text() for path in (tmp_path / "views").rglob("*.jsonl"))


@given(events(), st.sampled_from(["metadata", "off"]))
def test_doing_it_twice_changes_nothing_more(event: AgentEvent, content: Withheld) -> None:
    redactor = ContentRedactor(content, None)
    once = redactor.event(event)
    assert redactor.event(once) == once
    assert (once.seq, once.session_id, once.type) == (event.seq, event.session_id, event.type)
    assert encode_event(once)


def test_kinds_and_sizes_are_told_as_metadata() -> None:
    call = ToolCallPart(
        id="call-1", name="read_file", input={"path": "a/zebra", "lines": 3, "deep": {"x": 1}}
    )
    told = without(ToolCallRequested(**HEADER, request_id="request-1", call=call))
    assert told["call"] == ToolCallPart(
        id="call-1",
        name="read_file",
        input={"path": "[redacted:text:7]", "lines": "[redacted:number]", "deep": "[redacted:object:1]"},
    )
    assert told["unknown_fields"] == {"redactions": 3}


def test_neither_kinds_nor_sizes_nor_names_of_arguments_are_told_when_off() -> None:
    call = ToolCallPart(id="call-1", name="read_file", input={"path": "a/zebra", "lines": 3})
    told = without(ToolCallRequested(**HEADER, request_id="request-1", call=call), "off")
    mark = "[redacted:content]"
    assert told["call"] == ToolCallPart(id="call-1", name="read_file", input={mark: mark})


EVENTS: dict[str, AgentEvent] = {
    "input": InputAccepted(
        **HEADER,
        items=(
            Item(
                kind="user",
                id="item-1",
                parts=(
                    TextPart(text=SAID, extra={"citations": [SAID]}),
                    MediaPart(media_type="image/png", data="emVicmE=", url=f"http://x/{SAID}"),
                    FilePart(name=f"{SAID}.pdf", media_type="application/pdf", file_id="file-1"),
                ),
            ),
        ),
    ),
    "reasoning": ContentDelta(
        **HEADER,
        request_id="q",
        delta=CommitPart("0", ReasoningPart(text=SAID, signature="sig-zebra", redacted=SAID)),
    ),
    "piece": ContentDelta(**HEADER, request_id="q", delta=AppendText("0", SAID)),
    "result": ToolResultReceived(
        **HEADER, call_id="c", name="look", output={"rows": [SAID]}, is_error=True, error=ERROR
    ),
    "failure": ModelRequestFailed(**HEADER, request_id="q", error=ERROR, error_class="server"),
    "approval": ApprovalResolved(
        **HEADER, approval_id="a", call_id="c", approved=False, reason=SAID, input={"path": SAID}
    ),
    "warning": Warning(**HEADER, code="odd", message=SAID, details={"what": SAID}),
    "custom": CustomEvent(**HEADER, name="noted", data=[SAID]),
    "unknown": UnknownEvent(**HEADER, type="new_thing", payload={"said": SAID}),
    "unknown field": Warning(**HEADER, code="odd", message="x", unknown_fields={"later": SAID}),
    "start": RunStarted(
        **HEADER, agent_name="fixer", model="m", system=SAID, parameters={"stop": [SAID], "max_tokens": 5}
    ),
}


@pytest.mark.parametrize("content", ["metadata", "off"])
@pytest.mark.parametrize("name", EVENTS)
def test_what_was_said_is_nowhere_in_an_event(name: str, content: Withheld) -> None:
    event = EVENTS[name]
    told = encode_event(ContentRedactor(content).event(event)).decode()
    assert SAID not in told
    assert "emVicmE" not in told


def test_types_of_errors_stay_and_their_messages_go() -> None:
    told = without(EVENTS["failure"])["error"]
    assert told == ErrorInfo(type="ValueError", message="[redacted:text:8]", frames=ERROR.frames)
    assert without(EVENTS["failure"], "off")["error"] == ErrorInfo(
        type="ValueError", message="[redacted:content]", frames=("[redacted:content]",)
    )


def test_reasoning_loses_its_signature_with_its_text() -> None:
    assert without(EVENTS["reasoning"])["delta"] == CommitPart("0", ReasoningPart(text="[redacted:text:5]"))


def test_digests_stay_as_metadata_and_go_when_off() -> None:
    event = ModelRequestStarted(
        **HEADER,
        request_id="q",
        attempt=1,
        purpose="turn",
        model="m",
        message_count=1,
        digests={"tools": "ab"},
    )
    assert without(event)["digests"] == {"tools": "ab"}
    assert without(event, "off")["digests"] == {"tools": "[redacted:content]"}
    assert without(event, "off")["purpose"] == "turn"


def test_of_metadata_what_reports_group_by_stays_when_off() -> None:
    event = RunStarted(
        **HEADER, agent_name="a", model="m", metadata={"phase": "test", "user": "ann", "tier": 2}
    )
    mark = "[redacted:content]"
    assert without(event)["metadata"] == event.metadata
    assert without(event, "off")["metadata"] == {"phase": "test", "tier": 2, mark: mark}


def test_of_a_decision_of_the_hosts_its_step_and_kind_stay() -> None:
    data: dict[str, JSON] = {
        "step": 2,
        "type": "tool_selection",
        "detail": "zebra",
        "metadata": {"args": "zebra"},
    }
    event = CustomEvent(**HEADER, name="decision", data=data)
    mark = "[redacted:content]"
    kept = {"step": 2, "type": "tool_selection"}
    assert without(event)["data"] == {
        **kept,
        "detail": "[redacted:text:5]",
        "metadata": "[redacted:object:1]",
    }
    assert without(event, "off")["data"] == {**kept, mark: mark}
    sentence = CustomEvent(**HEADER, name="decision", data={"type": "why zebra", "step": "zebra"})
    assert "zebra" not in repr(without(sentence)["data"])


def test_usage_and_cost_stay_and_the_providers_own_object_goes_when_off() -> None:
    usage = Usage(input_tokens=3, output_tokens=4, raw={"tier": "standard", "costs": {"USD": "1"}})
    event = UsageUpdated(**HEADER, request_id="q", model="m", usage=usage, final=True)
    mark = "[redacted:content]"
    assert without(event)["usage"] == usage
    assert without(event, "off")["usage"] == Usage(
        input_tokens=3, output_tokens=4, raw={"costs": {"USD": "1"}, mark: mark}
    )


def test_secrets_in_what_stays_are_masked_and_counted_in_the_receipt() -> None:
    redactor = ContentRedactor()
    told = redactor.event(
        RunStarted(
            **HEADER, agent_name="a", model="m", system="be kind", metadata={"note": "sk-ant-" + "a1B2" * 12}
        )
    )
    assert isinstance(told, RunStarted)
    assert "redacted:anthropic_key" in str(told.metadata["note"])
    assert redactor.receipt() == {"anthropic_key": 1, "content": 1}


def test_an_observer_behind_it_is_told_one_event_for_each() -> None:
    told: list[AgentEvent] = []
    reporter = RedactingReporter(told.append, ContentRedactor("off"))
    for event in EVENTS.values():
        reporter.handle_event(event)
    assert [type(event) for event in told] == [type(event) for event in EVENTS.values()]


def test_a_text_that_only_looks_like_a_mark_is_no_way_out() -> None:
    told = without(CustomEvent(**HEADER, name="x", data="[redacted:the-word-is-zebra]"))
    assert told["data"] == "[redacted:text:28]"


def test_a_content_that_is_no_choice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="content='none' refused because it is no choice"):
        ContentRedactor("none")  # type: ignore[arg-type] # what is refused
