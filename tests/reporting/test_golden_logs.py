"""Golden logs: what is compared, what is told of a difference, what is written and when."""

from __future__ import annotations

import re
import stat
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_loop.agent import Agent
from agentkit_loop.errors import LogError
from agentkit_loop.events import AgentEvent, RunFinished, ToolResultReceived
from agentkit_loop.pricing import PriceTable, Rates
from agentkit_loop.retry import Retry
from agentkit_loop.testing import Reply, ScriptedCall, ScriptedFailure, ScriptedModel
from agentkit_reporting import check_log, decode_event, encode_event, read_events
from agentkit_reporting.testing.golden_logs import GoldenLogs, log_differences
from agentkit_reporting.testing.normal_form import normal_form
from agentkit_reporting.testing.safe_names import safe_name
from tests.loop.scripts import replies as any_replies
from tests.reporting.paying_agent import pay, paying, recorded
from tests.strategies import event_lists, texts


def difference(golden: GoldenLogs, events: list[AgentEvent] | object, name: str | None = None) -> str:
    with pytest.raises(AssertionError) as caught:
        golden(events, name)  # type: ignore[arg-type] # any iterable of events
    return str(caught.value)


def with_sub_agent() -> list[AgentEvent]:
    child = Agent(ScriptedModel(["I looked."]), name="looker")
    return list(
        recorded(
            [
                Reply(calls=(ScriptedCall(name="looker", input={"prompt": "look"}),)),
                Reply(fail=ScriptedFailure(after_chunks=1), text="so far and no further"),
                "It is there.",
            ],
            tools=[child.as_tool(description="Look.")],
            retry=Retry(max_attempts=2),
        )
    )


@given(event_lists())
def test_the_normal_form_of_a_normal_form_is_itself(told: list[AgentEvent]) -> None:
    once = normal_form(told)
    assert normal_form(once) == once
    assert [decode_event(encode_event(event)) for event in once] == once
    assert [event.seq for event in once] == list(range(1, len(once) + 1))


def test_two_runs_of_one_script_have_one_normal_form() -> None:
    assert normal_form(with_sub_agent()) == normal_form(with_sub_agent())
    assert normal_form(recorded()) != normal_form(recorded(paying(amount=4)))


def test_a_golden_log_is_a_log(tmp_path: Path) -> None:
    golden = GoldenLogs(tmp_path / "golden")
    golden(with_sub_agent(), "family")
    (path,) = golden.written
    assert path == tmp_path / "golden" / "family.jsonl"
    found = check_log(path)
    assert not found.faults
    assert [(session.missing, session.faults) for session in found.sessions] == [(0, 0), (0, 0)]
    told = list(read_events(path, strict=True))
    assert {event.session_id for event in told} == {"ses-1", "ses-2"}
    assert len({event.timestamp for event in told}) == 1
    assert told[-1].observers == ()  # type: ignore[attr-defined] # a RunFinished
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_same_run_passes_and_another_one_is_told_field_by_field(tmp_path: Path) -> None:
    golden = GoldenLogs(tmp_path)
    golden(recorded(), "pay")
    golden(recorded(), "pay")
    text = difference(golden, recorded(paying(amount=4)), "pay")
    assert "differs from the golden log" in text
    assert "delta.part.input.amount: before 3, now 4" in text
    assert "pytest --agentkit-update-golden" in text


def test_missing_and_new_events_are_told_and_those_behind_them_compared(tmp_path: Path) -> None:
    golden = GoldenLogs(tmp_path)
    golden(recorded(), "pay")
    without = [event for event in recorded() if not isinstance(event, ToolResultReceived)]
    assert "missing now: #13 ToolResultReceived" in difference(golden, without, "pay")
    events = list(recorded())
    twice = [*events[:-2], events[-2], *events[-2:]]
    assert "new: #21 TurnFinished" in difference(golden, twice, "pay")
    told = list(log_differences(recorded(), [*recorded()][3:]))
    assert [each.field for each in told[:3]] == [""] * 3
    assert len(told) == 3


def test_a_long_difference_is_bounded_and_harmless(tmp_path: Path) -> None:
    golden = GoldenLogs(tmp_path)
    golden(recorded(["short\x1b[2J"] * 9, prompts=("go",) * 9), "long")
    text = difference(golden, recorded(["x" * 10_000] * 9, prompts=("\u202ego",) * 9), "long")
    assert "others" in text
    assert len(text) < 3_000
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_costs_are_compared_and_their_source_is_not(tmp_path: Path) -> None:
    def priced(rate: int, source: str) -> list[AgentEvent]:
        table = PriceTable({"scripted": Rates(input=Decimal(rate), output=Decimal(rate))}, source=source)
        return list(recorded(prices=table))

    golden = GoldenLogs(tmp_path)
    golden(priced(2, "one"), "cost")
    golden(priced(2, "two"), "cost")
    assert "cost.amount" in difference(golden, priced(3, "one"), "cost")


def test_a_missing_golden_log_is_a_failure_where_none_may_be_made(tmp_path: Path) -> None:
    golden = GoldenLogs(tmp_path, create=False)
    assert "is missing, and none is written in CI" in difference(golden, recorded(), "pay")
    assert list(tmp_path.iterdir()) == []
    GoldenLogs(tmp_path, create=False, update=True)(recorded(), "pay")
    golden(recorded(), "pay")


def test_an_update_writes_what_differs_and_nothing_else(tmp_path: Path) -> None:
    GoldenLogs(tmp_path)(recorded(), "pay")
    same = GoldenLogs(tmp_path, update=True)
    same(recorded(), "pay")
    assert same.written == []
    same(recorded(paying(amount=4)), "pay")
    assert same.written == [tmp_path / "pay.jsonl"]
    GoldenLogs(tmp_path)(recorded(paying(amount=4)), "pay")


def test_a_golden_log_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "pay.jsonl").write_text("no log\n", encoding="utf-8")
    with pytest.raises(LogError, match=re.escape("pay.jsonl:1")):
        GoldenLogs(tmp_path)(recorded(), "pay")
    GoldenLogs(tmp_path, update=True)(recorded(), "pay")
    GoldenLogs(tmp_path)(recorded(), "pay")


def test_nothing_recorded_is_no_golden_run(tmp_path: Path) -> None:
    assert "no event was recorded" in difference(GoldenLogs(tmp_path), [], "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_does_not_reach_a_golden_log(tmp_path: Path) -> None:
    key = "sk-ant-api03-" + "a1B2c3D4e5" * 8
    golden = GoldenLogs(tmp_path)
    golden(recorded(paying(to=key)), "secret")
    assert key not in (tmp_path / "secret.jsonl").read_text(encoding="utf-8")
    golden(recorded(paying(to=key)), "secret")
    assert key not in difference(golden, recorded(paying(amount=4, to=key)), "secret")


def test_what_says_something_else_each_time_can_be_changed_first(tmp_path: Path) -> None:
    def steady(event: AgentEvent) -> AgentEvent | None:
        if isinstance(event, RunFinished):
            return None
        return attrs.evolve(event, output="at some time") if isinstance(event, ToolResultReceived) else event

    golden = GoldenLogs(tmp_path)
    golden(recorded(), "pay", change=steady)
    golden(recorded(paying()), "pay", change=steady)
    assert "at some time" in (tmp_path / "pay.jsonl").read_text(encoding="utf-8")


@given(st.lists(any_replies, min_size=1, max_size=3))
def test_a_recording_never_differs_from_itself(script: list[Reply]) -> None:
    whole = [Reply(text=reply.text, reasoning=reply.reasoning, usage=reply.usage) for reply in script]
    events = recorded(whole, prompts=("go",) * len(whole), tools=[pay])
    assert list(log_differences(events, events)) == []
    assert list(log_differences(normal_form(events), events)) == []


@given(texts(60))
def test_a_name_of_a_file_leads_nowhere(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name)
    assert safe_name(name) == name


@pytest.mark.parametrize("text", ["../../etc/passwd", "", ".", "..", "a\0b", "a/b", "-x", "é" * 300, "x."])
def test_a_hostile_name_of_a_file_leads_nowhere(text: str, tmp_path: Path) -> None:
    assert GoldenLogs(tmp_path).path_of(text).parent == tmp_path
    assert safe_name(text) not in ("", ".", "..")
    assert safe_name(text) != safe_name(text + "!")


@pytest.mark.parametrize("text", ["CON", "nul", "Aux.log", "com1", "LPT9.x.y"])
def test_a_name_that_windows_takes_for_a_device_is_changed(text: str) -> None:
    assert safe_name(text) != text
    assert safe_name(text).partition(".")[0].lower() not in ("con", "nul", "aux", "com1", "lpt9")


def test_a_plain_name_stays() -> None:
    assert safe_name("console") == "console"
    assert safe_name("test_pay.TestPaying.test_bob") == "test_pay.TestPaying.test_bob"
