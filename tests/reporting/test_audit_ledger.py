"""An audit ledger: what was decided and on what evidence, told by the host or by the events, each once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.testing import EventRecorder, Reply, ScriptedCall
from agentkit_loop.testing_messages import reply_events, whole_message
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.records.audit import AuditLedger, DecisionEntry

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-ant-api03-" + "a1B2" * 22 + "-AA"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def brief(trace: list[DecisionEntry]) -> list[tuple[int, str, str]]:
    return [(entry.step, entry.type, entry.detail) for entry in trace]


# --- told by a host


def test_the_seeds_decisions_are_kept_in_order_and_by_session(tmp_path: Path) -> None:
    ledger = AuditLedger(tmp_path / "logs" / "decisions.jsonl")
    ledger.log("ses-1", {
        "step": 0, "type": "reasoning", "detail": "Model generated response",
        "metadata": {"stopReason": "tool_use"},
    })  # fmt: skip
    ledger.log("ses-2", step=0, type="final_response", detail="Agent completed task")
    ledger.log(
        "ses-1", step=0, type="tool_selection", detail="Selected search_web", metadata={"args": {"q": 1}}
    )
    ledger.log("ses-1", step=1, type="final_response", detail="Agent completed task")
    trace = ledger.get_trace("ses-1")
    assert brief(trace) == [
        (0, "reasoning", "Model generated response"),
        (0, "tool_selection", "Selected search_web"),
        (1, "final_response", "Agent completed task"),
    ]
    assert [entry.metadata for entry in trace] == [{"stopReason": "tool_use"}, {"args": {"q": 1}}, None]
    assert {entry.basis for entry in trace} == {"inferred"}  # nobody captured any thinking
    assert (ledger.session_ids, ledger.get_trace("ses-3")) == (("ses-1", "ses-2"), [])
    assert ledger.close()
    found = lines(tmp_path / "logs" / "decisions.jsonl")
    assert list(found[0]) == [
        "session_id", "step", "type", "detail", "metadata", "evidence_seq", "basis", "timestamp", "run_id",
        "turn_id",
    ]  # fmt: skip
    read = AuditLedger.read(tmp_path / "logs" / "decisions.jsonl")
    assert {name: read.get_trace(name) for name in read.session_ids} == {
        name: ledger.get_trace(name) for name in ledger.session_ids
    }


@pytest.mark.parametrize(
    "tell",
    [
        lambda ledger: ledger.log("s"),
        lambda ledger: ledger.log("s", type="reasoning"),
        lambda ledger: ledger.log("s", type="", detail="x"),
        lambda ledger: ledger.log("s", type="reasoning", detail=7),
        lambda ledger: ledger.log("s", type="reasoning", detail="x", step="0"),
        lambda ledger: ledger.log("s", type="reasoning", detail="x", metadata=[1]),
        lambda ledger: ledger.log("s", {"type": "reasoning", "detail": "x", "sessionId": "s"}),
        lambda ledger: ledger.log("s", {"type": "reasoning", "detail": "x"}, step=1),
        lambda ledger: ledger.log("s", [("type", "reasoning")]),
        lambda ledger: ledger.log(None, type="reasoning", detail="x"),
    ],
    ids=[
        "nothing",
        "no detail",
        "no type",
        "detail",
        "step",
        "metadata",
        "field",
        "both",
        "list",
        "no session",
    ],
)
def test_a_decision_that_is_none_is_refused_and_leaves_nothing(tell: Callable[[Any], object]) -> None:
    ledger = AuditLedger()
    with pytest.raises(ConfigurationError, match="refused"):
        tell(ledger)
    assert ledger.get_trace("s") == []


def test_secrets_and_long_words_are_cut_out_before_anything_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    ledger = AuditLedger(path)
    ledger.log(
        "s", type="reasoning", detail=f"use {KEY}", metadata={"args": {"api_key": "x1y2z3q4"}, "n": 10**12}
    )
    ledger.log(
        "s", type="note", detail="a" * 49_990 + KEY, metadata={"rows": ["row"] * 9_000, "text": "t" * 30_000}
    )
    ledger.close()
    for text in (path.read_text(), repr(ledger.get_trace("s"))):
        assert "a1B2" not in text
        assert "x1y2z3q4" not in text
    first, second = ledger.get_trace("s")
    assert first.metadata is not None
    assert first.metadata["n"] == 10**12
    assert len(second.detail) == 50_000
    assert {name: len(str(value)) for name, value in (second.metadata or {}).items()} == {
        "rows": 2_020, "text": 2_020
    }  # fmt: skip
    assert ledger.account().redacted == 2
    assert AuditLedger.read(path).get_trace("s") == [first, second]


def test_a_decision_that_cannot_be_written_is_in_neither_memory_nor_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "decisions.jsonl"
    ledger = AuditLedger(path)
    path.mkdir()
    ledger.log("s", type="reasoning", detail="one")
    path.rmdir()
    ledger.log("s", type="reasoning", detail="two")
    assert [entry.detail for entry in ledger.get_trace("s")] == ["two"]
    assert "LogError" in caplog.text
    assert str(ledger.account()) == "incomplete: 1 of 2 (1 failed)"
    assert not ledger.close()
    with pytest.raises(LogError, match="closed"):
        ledger.log("s", type="reasoning", detail="three")
    assert AuditLedger.read(path).get_trace("s") == ledger.get_trace("s")
    ledger.forget("s")
    assert ledger.get_trace("s") == []


def test_rotated_ledgers_are_read_as_one_and_lines_of_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with AuditLedger(path, rotation=Rotation(max_bytes=1_000)) as ledger:
        for number in range(30):
            ledger.log("s", type="reasoning", detail=f"thought {number}")
    path.write_text(path.read_text() + '{"type":"note"}\nnothing\n')
    read = AuditLedger.read(path)
    assert read.get_trace("s") == ledger.get_trace("s")
    assert read.bad_count == 2
    with pytest.raises(LogError):
        AuditLedger.read(path, strict=True)


WRITER = """
import sys
from agentkit_reporting.records.audit import AuditLedger

with AuditLedger(sys.argv[1]) as ledger:
    for number in range(40):
        ledger.log(sys.argv[2], step=number, type="reasoning", detail="because")
"""


def test_threads_and_processes_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"process-{number}"], cwd=ROOT)
        for number in range(4)
    ]
    ledger = AuditLedger(path)

    def think(name: str) -> None:
        for number in range(40):
            ledger.log(name, step=number, type="reasoning", detail="because")

    threads = [threading.Thread(target=think, args=(f"thread-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert ledger.close()
    read = AuditLedger.read(path, strict=True)
    assert len(read.session_ids) == 12
    assert all([entry.step for entry in read.get_trace(name)] == [*range(40)] for name in read.session_ids)


# --- told by a host that tells its requests and calls as well

THOUGHT = "North before south."


def message(number: int, *queries: str, reasoning: str = "", text: str = "") -> dict[str, Any]:
    calls = tuple(ScriptedCall(name="search_web", input={"query": query}) for query in queries)
    return whole_message(reply_events(Reply(text=text, reasoning=reasoning, calls=calls), number=number))


def composition(ledger: AuditLedger, emitter: EventEmitter, reasoning: str) -> None:
    """Run the seed's loop, with each request and call told, and each decision told again by the host."""
    answers = [
        message(1, "north", "south", reasoning=reasoning, text="Let me look."),
        message(2, reasoning=reasoning, text="It is there."),
    ]
    session_id = emitter.session_id
    with emitter.run(model="claude-sonnet-4-6", prices=None) as run:
        run.input("Where?")
        for step, response in enumerate(answers):
            with run.model_call() as call:
                call.record(response)
            ledger.log(session_id, {
                "step": step, "type": "reasoning", "detail": "Model generated response",
                "metadata": {"stopReason": response["stop_reason"]},
            })  # fmt: skip
            for block in response["content"]:
                if block["type"] == "tool_use":
                    ledger.log(session_id, {
                        "step": step, "type": "tool_selection", "detail": f"Selected {block['name']}",
                        "metadata": {"args": block["input"]},
                    })  # fmt: skip
                    with run.tool_call(block) as body:
                        body.result(f"Results for {block['input']['query']}")
        ledger.log(session_id, {"step": 1, "type": "final_response", "detail": "Agent completed task"})


@pytest.mark.parametrize("reasoning", [THOUGHT, ""], ids=["thinking", "no thinking"])
def test_what_host_and_events_both_tell_is_one_entry(tmp_path: Path, reasoning: str) -> None:
    path = tmp_path / "decisions.jsonl"
    recorder = EventRecorder()
    emitter = EventEmitter([recorder], session_id="s")
    ledger = AuditLedger(path, emitter=emitter)
    composition(ledger, emitter, reasoning)
    ledger.close()
    trace = ledger.get_trace("s")
    assert brief(trace) == [
        (0, "reasoning", "Model generated response"),
        (0, "tool_selection", "Selected search_web"),
        (0, "tool_selection", "Selected search_web"),
        (1, "reasoning", "Model generated response"),
        (1, "final_response", "Agent completed task"),
    ]
    assert {entry.basis for entry in trace} == {"observed" if reasoning else "inferred"}
    assert trace[0].metadata == {
        "stop_reason": "tool_use", "stopReason": "tool_use", "evidence": reasoning or "Let me look."
    }  # fmt: skip
    assert [(entry.metadata or {})["args"]["query"] for entry in trace[1:3]] == ["north", "south"]
    by_seq = {event.seq: event.type for event in recorder.events}
    assert [by_seq[entry.evidence_seq] for entry in trace[:3]] == [
        "content_delta", "tool_call_requested", "tool_call_requested"
    ]  # fmt: skip
    assert AuditLedger.read(path).get_trace("s") == trace
    offline = AuditLedger()
    for event in recorder.events:
        offline.handle_event(event)
    assert offline.get_trace("s") == trace


def test_a_decision_that_the_events_do_not_tell_stands_by_itself() -> None:
    emitter = EventEmitter(session_id="s")
    ledger = AuditLedger(emitter=emitter)
    with emitter.run(prices=None) as run:
        run.model_call()
        run.record_model_call(message(1, "north", text="Let me look."))
        run.decision("tool_selection", "Selected read_file")  # another tool
        run.decision("reasoning", "of another step", step=7)
        run.decision("routing", "to the small model")
        run.decision("tool_selection", "Selected search_web", metadata={"args": {"query": "north"}})
        run.decision("tool_selection", "Selected search_web", metadata={"args": {"query": "north"}})
        run.custom("decision", "nonsense")
        run.custom("decision", {"type": ["a"], "detail": {"b": 1}})
        run.custom("decision", {"type": "odd", "detail": {"b": 1}, "step": None, "metadata": [1]})
    assert brief(ledger.get_trace("s")) == [
        (0, "reasoning", "Let me look."),
        (0, "tool_selection", "Selected search_web"),
        (0, "tool_selection", "Selected read_file"),
        (7, "reasoning", "of another step"),
        (0, "routing", "to the small model"),
        (0, "tool_selection", "Selected search_web"),
        (0, "odd", '{"b":1}'),
    ]
    assert ledger.get_trace("s")[1].amends
    assert ledger.get_trace("s")[-1].metadata == {"value": [1]}
