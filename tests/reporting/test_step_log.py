"""A step log: one record a step, with the keys that were promised; what went wrong is kept; memory is the file."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_loop.errors import ConfigurationError, LogError
from agentkit_loop.events import ModelRequestFinished
from agentkit_loop.testing import EventRecorder, VirtualClock
from agentkit_reporting.log.rotate import Rotation
from agentkit_reporting.log.segments import segments_of
from agentkit_reporting.records.reading import read_records
from agentkit_reporting.records.step_log import LlmCallStep, RunSteps, StepLog
from agentkit_reporting.redaction.redactor import Redactor

KEY = "sk-ant-api03-" + "a1B2" * 22 + "-AA"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_in(path: Path) -> list[dict[str, Any]]:
    return [each for each in lines(path) if each["type"] != "header"]


# --- the header


def test_the_first_record_of_a_file_says_what_the_run_is(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    about = {"agent_version": "1.2", "task_type": "search", "environment": "prod"}
    clock = VirtualClock()
    began = clock.now().timestamp()
    with StepLog(path, "run-1", metadata=about, clock=clock) as log:
        clock.sleep(2)
        log.record_llm_call("m", 1, 1, "end_turn")
    header, _ = lines(path)
    assert header == {
        "run_id": "run-1", "type": "header", "metadata": about, "ts": began, "session_id": "run-1"
    }  # fmt: skip
    assert log.summarize().duration_ms == 2_000


def test_runs_that_share_a_file_each_have_their_header_and_their_own_numbers(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "a", metadata={"n": 1}) as first, StepLog(path, "b", metadata={"n": 2}) as second:
        for log in (first, second, first):
            log.record_tool_call("t")
    assert [(each["run_id"], each.get("step")) for each in lines(path)] == [
        ("a", None), ("a", 1), ("b", None), ("b", 1), ("a", 2)
    ]  # fmt: skip
    assert {run_id: run.metadata for run_id, run in StepLog.runs(path).items()} == {
        "a": {"n": 1},
        "b": {"n": 2},
    }


def test_each_segment_begins_with_a_header_and_is_read_as_one_log(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r", rotation=Rotation(max_bytes=1_000, compress=None)) as log:
        for number in range(20):
            log.record_tool_call("t", {"number": number})
    files = [*(each.path for each in segments_of(path)), path]
    assert len(files) > 2
    assert all(lines(each)[0]["type"] == "header" for each in files)
    read = StepLog.read(path)
    assert (read.steps, read.headers) == (log.steps, log.headers)


# --- what went wrong


def test_an_error_with_an_empty_text_is_an_error(tmp_path: Path) -> None:
    with StepLog(tmp_path / "steps.jsonl", "r") as log:
        log.record_tool_call("t", {}, error="")
        log.record_tool_call("t", {}, output="")
    assert [each["error"] for each in steps_in(tmp_path / "steps.jsonl")] == ["", None]
    assert log.summarize().error_count == StepLog.read(tmp_path / "steps.jsonl").summarize().error_count == 1


def test_an_exception_is_kept_with_its_type_and_first_three_frames(tmp_path: Path) -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise PermissionError

    with StepLog(tmp_path / "steps.jsonl", "r") as log:
        try:
            deep(5)
        except PermissionError as error:
            log.record_tool_call("t", {}, error=error)
        log.record_llm_call("m", error=TimeoutError("too late"))
    called, asked = steps_in(tmp_path / "steps.jsonl")
    assert (called["error"], called["error_type"], called["status"]) == (
        "PermissionError", "PermissionError", "error"
    )  # fmt: skip
    assert [frame.split(" in ")[1] for frame in called["error_frames"]] == ["deep"] * 3
    assert (asked["error"], asked["error_type"], asked["stop_reason"]) == ("too late", "TimeoutError", None)
    assert log.summarize().error_count == 2


@pytest.mark.parametrize(
    "tell",
    [
        lambda log: log.record_tool_call("t", {}, error=3),
        lambda log: log.record_tool_call("t", {}, error=ValueError),
        lambda log: log.record_tool_call("t", {}, duration_ms="long"),
        lambda log: log.record_llm_call("m", 1, 1, "end_turn", cost="much"),
        lambda log: log.record_llm_call("m", usage=7),
        lambda log: log.record_llm_call("m", duration_ms=[1]),
        lambda log: log.record_llm_call("m", error=7),
        lambda log: log.record_llm_call("m", -1),
        lambda log: log.record_llm_call("m", 1, "2"),
        lambda log: log.record_llm_call("m", 1.5),
    ],
    ids=[
        "error",
        "error class",
        "duration",
        "cost",
        "usage",
        "request duration",
        "request error",
        "negative tokens",
        "tokens as text",
        "half a token",
    ],
)
def test_facts_that_are_none_are_refused_and_nothing_is_kept_of_them(tell: Any) -> None:
    log = StepLog(None, "r")
    log.record_tool_call("t", {})
    with pytest.raises(ConfigurationError, match="refused"):
        tell(log)
    assert len(log.steps) == 1


def test_values_that_are_no_json_are_kept_in_a_documented_form(tmp_path: Path) -> None:
    with StepLog(tmp_path / "steps.jsonl", "r") as log:
        log.record_tool_call("t", {"when": dt.date(2026, 1, 2), "raw": b"x"}, output={1, 2})
        log.record_tool_call("t", "just text", output=float("nan"))
    first, second = steps_in(tmp_path / "steps.jsonl")
    assert (first["input"], first["output"]) == (
        {"when": "2026-01-02", "raw": {"$bytes": "eA=="}}, {"$set": [1, 2]}
    )  # fmt: skip
    assert (second["input"], second["output"]) == ({"value": "just text"}, {"$float": "nan"})
    assert StepLog.read(tmp_path / "steps.jsonl").steps == log.steps


def test_secrets_are_in_neither_the_file_nor_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r", metadata={"password": "p4ssw0rd!", "key": KEY}) as log:
        log.record_tool_call("t", {"text": f"my {KEY}"}, output=KEY)
        log.record_tool_call("t", {"api_key": "x1y2z3q4"}, error=ValueError(KEY))
        log.record_llm_call("m", 2, 1, "end_turn")
    for text in (path.read_text(), repr((log.steps, log.headers))):
        assert not any(secret in text for secret in ("a1B2", "x1y2z3q4", "p4ssw0rd"))
    assert (log.account().redacted, log.account().delivered) == (3, 4)
    assert StepLog.read(path).steps == log.steps


def test_of_arguments_only_those_that_are_allowed_are_kept() -> None:
    log = StepLog(None, "r", redact=Redactor(keep_arguments=["path"]))
    log.record_tool_call("read", {"path": "a.txt", "because": "a person's words"})
    assert getattr(log.steps[0], "input")["path"] == "a.txt"  # noqa: B009 - of a tool's call
    assert "person" not in repr(log.steps)


# --- the memory and the file


def test_a_step_that_cannot_be_written_is_in_neither_memory_nor_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "steps.jsonl"
    log = StepLog(path, "r")
    log.record_tool_call("t", {"n": 1})
    path.unlink()
    path.mkdir()  # nothing can be written there
    log.record_tool_call("t", {"n": 2})
    assert [step.step for step in log.steps] == [1]
    assert "LogError" in caplog.text
    assert log.account().failed == 3  # the header and the first step went with the file
    path.rmdir()
    log.record_tool_call("t", {"n": 3})
    log.close()
    assert [(step.step, step.run_id) for step in StepLog.read(path).steps] == [
        (step.step, step.run_id) for step in log.steps[1:]
    ]
    assert len(log.steps) == 2


def test_a_log_counts_on_where_another_process_left_off(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r") as first:
        first.record_tool_call("t", {"n": 1})
    with path.open("ab") as file:
        file.write(b'{"run_id":"r","step":2,"type":"tool_c')  # a crash
    with StepLog(path, "r") as second:
        second.record_tool_call("t", {"n": 2})
    assert [step.step for step in second.steps] == [2]
    read = StepLog.read(path, "r")
    assert [step.step for step in read.steps] == [1, 2]
    assert (read.bad_count, read.summarize().total_steps) == (1, 2)


def test_a_number_that_nobody_gave_does_not_stop_the_counting(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    for number in (2**64 - 1, 2**70, 1):
        with path.open("a") as file:
            file.write(json.dumps({"run_id": "r", "step": number, "type": "note"}) + "\n")
    with StepLog(path, "r") as log:
        log.record_tool_call("t")
    assert [step.step for step in log.steps] == [2]


def test_a_log_without_a_file_keeps_its_steps_in_memory() -> None:
    log = StepLog(None, "r")
    log.record_tool_call("t")
    log.record_tool_call("t")
    assert log.close()
    assert ([step.step for step in log.steps], log.path, str(log.account())) == (
        [1, 2], None, "complete: 3 of 3"
    )  # fmt: skip
    log.forget("r")
    assert (log.steps, log.headers, log.summarize().total_steps) == ((), (), 0)


def test_a_closed_log_refuses_steps_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    recorder = EventRecorder()
    log = StepLog(tmp_path / "steps.jsonl", "r", observers=[recorder])
    with log:
        log.record_llm_call("m", 1, 1, "end_turn")
    assert log.close()
    with pytest.raises(LogError, match="closed"):
        log.record_llm_call("m", 1, 1, "end_turn")
    assert recorder.types[0] == "run_started"
    assert recorder.types[-2:] == ["turn_finished", "run_finished"]
    assert str(log.account()) == "complete: 2 of 2"


def test_leaving_by_an_exception_fails_the_run(tmp_path: Path) -> None:
    recorder = EventRecorder()
    with pytest.raises(KeyError), StepLog(tmp_path / "steps.jsonl", "r", observers=[recorder]) as log:
        log.record_tool_call("t")
        raise KeyError("x")
    assert recorder.types[-1] == "run_failed"


@pytest.mark.parametrize(
    "make",
    [
        lambda place: StepLog(place, ""),
        lambda place: StepLog(place, 7),  # type: ignore[arg-type] # refused
        lambda place: StepLog(place, "r", metadata=["a"]),  # type: ignore[arg-type] # refused
        lambda place: StepLog(place, "r", emitter=EventEmitter(), observers=[print]),
        lambda place: StepLog(place).record_tool_call("t"),
    ],
    ids=["empty id", "id is a number", "metadata", "both", "no run"],
)
def test_misuse_is_refused_with_what_would_work(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ConfigurationError, match="refused"):
        make(tmp_path / "steps.jsonl")


def test_a_path_that_cannot_work_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(LogError):
        StepLog(tmp_path, "r")


# --- the other words of the API, and other kinds of tokens


@pytest.mark.parametrize(
    "reason",
    ["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn",
     "model_context_window_exceeded", "some_new_word"],
)  # fmt: skip
def test_the_stop_reason_is_the_apis_word(reason: str) -> None:
    log = StepLog(None, "r")
    log.record_llm_call("m", 1, 1, reason)
    log.record_tool_call("t")
    log.record_llm_call("m", 1, 1, reason)
    assert len(log.filter(type="llm_call", stop_reason=reason)) == 2
    assert log.summarize().stop_reasons == {reason: 2}


def test_all_kinds_of_tokens_and_the_cost_are_kept() -> None:
    log = StepLog(None, "r")
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "output_tokens": 5,
    }
    log.record_llm_call("claude-sonnet-4-6", stop_reason="end_turn", usage=usage, cost="0.25")
    log.record_llm_call("claude-sonnet-4-6", 1, 1, "end_turn", cost="0.05")
    log.record_llm_call("a-model-without-a-price", 1, 1, "end_turn", duration_ms=12.5)
    first, _, third = log.steps
    assert isinstance(first, LlmCallStep)
    assert (first.cached_input_tokens, first.cache_write_input_tokens, first.cost) == (100, 50, "0.25")
    assert third.duration_ms == 12.5
    summary = log.summarize()
    assert (summary.total_tokens, summary.input_tokens, summary.cached_input_tokens) == (169, 12, 100)
    assert (summary.costs, summary.unpriced_llm_calls) == ({"USD": "0.30"}, 1)


def test_an_answer_that_is_given_twice_is_one_step() -> None:
    response = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "Yes."}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip
    log = StepLog(None, "r")
    log.record_llm_call(response=response, duration_ms=7)
    log.record_llm_call(response=response)
    (step,) = log.steps
    assert isinstance(step, LlmCallStep)
    assert (step.model, step.input_tokens, step.output_tokens, step.stop_reason, step.duration_ms) == (
        "claude-sonnet-4-6", 3, 2, "end_turn", 7
    )  # fmt: skip


def test_the_log_of_this_module_is_quiet(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    with StepLog(os.fspath(tmp_path / "steps.jsonl"), "r") as log:
        log.record_tool_call("t")
    assert not caplog.records


def test_where_nobody_said_why_an_answer_ended_the_record_says_nothing() -> None:
    log = StepLog(None, "r")
    emitter = EventEmitter([log])
    emitter.emit(ModelRequestFinished(request_id="q", finish_reason="unknown", duration_ms=1.0))
    (step,) = log.steps
    assert isinstance(step, LlmCallStep)
    assert step.stop_reason is None
    assert log.summarize().stop_reasons == {}


def test_tokens_that_nobody_told_are_unknown_in_the_figures_and_not_zero() -> None:
    log = StepLog(None, "r")
    log.record_tool_call("t")
    assert log.summarize().output_tokens == 0
    log.record_llm_call("m", input_tokens=1)
    summary = log.summarize()
    assert (summary.input_tokens, summary.output_tokens, summary.total_tokens) == (1, None, 1)
    log.record_llm_call("m", output_tokens=2)
    assert log.summarize().output_tokens == 2


def test_a_log_that_goes_on_with_a_run_adds_no_empty_header(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r", metadata={"n": 1}) as log, StepLog(path, "other") as other:
        for _ in range(3):
            log.record_tool_call("t")
        other.record_tool_call("t")
    with StepLog(path, "r") as again:
        again.record_tool_call("t")
        assert again.summarize().total_steps == 1
        assert [step.step for step in again.steps] == [4]
        assert again.account().received == 1
    with StepLog(path, "r", metadata={"n": 2}) as told:
        told.record_tool_call("t")
    assert [each["metadata"] for each in lines(path) if each["type"] == "header"] == [{"n": 1}, {}, {"n": 2}]
    read = StepLog.read(path, "r")
    assert (read.summarize().total_steps, read.metadata) == (5, {"n": 1})


def test_the_segments_of_a_log_that_goes_on_begin_with_the_runs_header(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r", metadata={"n": 1}) as log:
        log.record_tool_call("t")
    with StepLog(path, "r", rotation=Rotation(max_bytes=1_000, compress=None)) as again:
        for number in range(20):
            again.record_tool_call("t", {"number": number})
    files = [*(each.path for each in segments_of(path)), path]
    assert len(files) > 2
    assert all(lines(each)[0]["metadata"] == {"n": 1} for each in files)
    assert len(StepLog.read(path).headers) == 1


def test_what_is_no_filter_is_refused_with_those_that_are() -> None:
    log = StepLog(None, "r")
    log.record_tool_call("t")
    for refuses in (log.filter, RunSteps(log.headers, log.steps).filter):
        with pytest.raises(
            ConfigurationError, match=r"^nosuch= refused because it is no filter; use \[.*'tool'"
        ):
            refuses(nosuch=1)


def test_what_was_read_is_shown_in_short(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    with StepLog(path, "r") as log:
        log.record_tool_call("t")
    with path.open("a") as file:
        file.write("no record\n")
    assert repr(StepLog.read(path)) == "<RunSteps of 1 run: 1 step, 1 bad line>"
    assert repr(RunSteps((), ())) == "<RunSteps of 0 runs: 0 steps>"
    with read_records(path) as reader:
        assert repr(reader).startswith("<RecordReader of '")
        assert "bad" not in repr(reader)
        list(reader)
        assert repr(reader).endswith("steps.jsonl', 1 bad line so far>")
