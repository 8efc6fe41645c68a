"""What `agentkit report` counts, and what it leaves out: unknown costs, open runs, cancels, files of other records."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from agentkit_loop.emitter import EventEmitter
from agentkit_reporting import (
    AuditLedger,
    InvocationMetricsCollector,
    JsonlReporter,
    SessionProfiler,
    StepLog,
    ToolRecorder,
    UsageStore,
    read_events,
)
from tests.cli.report_samples import answer, calling, failing, write_run
from tests.cli.test_command_line import agentkit
from tests.cli.test_time import write_approved_later
from tests.reporting.metric_samples import metric


def told_of(folder: Path, *arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(agentkit("report", "--json", *arguments, cwd=folder).stdout)
    return told


def model_row(folder: Path, *arguments: str) -> dict[str, Any]:
    (row,) = told_of(folder, "--by", "model", *arguments)["tables"][0]["rows"]
    assert isinstance(row, dict)
    return row


def test_a_request_that_failed_before_it_told_any_usage_has_an_unknown_cost(tmp_path: Path) -> None:
    write_run(tmp_path / "run.jsonl", "coder", 0, failing("invalid_request", 1))
    for style in ((), ("--markdown",), ("--by", "model"), ("--by", "agent")):
        told = agentkit("report", *style, "run.jsonl", cwd=tmp_path).stdout
        assert "0.000000" not in told
        assert "1 unknown" in told
    row = model_row(tmp_path, "run.jsonl")
    assert (row["costs"], row["unknown_costs"], row["usage"]) == ({}, 1, {})
    whole = told_of(tmp_path, "run.jsonl")
    assert (whole["costs"], whole["unknown_costs"], whole["tokens"]) == ({}, 1, None)
    assert (whole["aggregate"]["total_cost"], whole["aggregate"]["total_tokens"]) == (None, None)
    assert whole["aggregate"]["cost_by_agent"] == {}


def test_requests_that_failed_do_not_shorten_how_long_an_answer_takes(tmp_path: Path) -> None:
    write_run(tmp_path / "run.jsonl", "coder", 0, failing("server", 1), answer(9))
    row = model_row(tmp_path, "run.jsonl")
    assert (row["calls"], row["failed"], row["unknown_costs"]) == (2, 1, 1)
    assert set(row["duration_ms"].values()) == {9_000.0}


@pytest.mark.parametrize("last", ["usage_updated", "model_request_finished", "tool_result_received"])
def test_what_a_run_without_an_end_used_counts_as_it_does_in_cost(tmp_path: Path, last: str) -> None:
    log = tmp_path / "run.jsonl"
    write_run(log, "coder", 0, answer(5))
    whole = len(log.read_bytes().splitlines())
    write_run(log, "tester", 30, calling("here"), answer(5))
    lines = log.read_bytes().splitlines(keepends=True)
    end = next(
        place for place, line in enumerate(lines) if place >= whole and json.loads(line)["type"] == last
    )
    log.write_bytes(b"".join(lines[: end + 1]))
    cost = json.loads(agentkit("cost", "--json", "run.jsonl", cwd=tmp_path).stdout)["total"]
    told, row = told_of(tmp_path, "run.jsonl"), model_row(tmp_path, "run.jsonl")
    assert told["costs"] == row["costs"] == cost["costs"] != {}
    assert (row["calls"], row["usage"]) == (cost["requests"], cost["usage"])
    assert told["tokens"] == sum(
        cost["usage"][name] for name in ("input_tokens", "cached_input_tokens", "output_tokens")
    )
    assert (told["open_runs"], told["aggregate"]["total_invocations"]) == (1, 1)
    agents = {each["key"]["agent"]: each for each in told["tables"][0]["rows"]}
    assert (agents["tester"]["runs"], agents["tester"]["open"]) == (0, 1)
    assert agents["tester"]["costs"] == told["open_costs"] != {}
    text = agentkit("report", "run.jsonl", cwd=tmp_path).stdout
    so_far, all_of_it = float(told["open_costs"]["USD"]), float(cost["costs"]["USD"])
    assert f"Without an end    1 run, >= ${so_far:.6f} of the cost\n" in text
    assert f"Cost              >= ${all_of_it:.6f}" in text
    assert "1 open" in text


def test_an_open_run_that_asked_and_was_told_nothing_has_an_unknown_cost(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    write_run(log, "coder", 0, answer(5))
    lines = log.read_bytes().splitlines(keepends=True)
    asked = next(place for place, line in enumerate(lines) if b'"model_request_started"' in line)
    log.write_bytes(b"".join(lines[: asked + 1]))
    result = agentkit("report", "run.jsonl", cwd=tmp_path)
    assert "Cost              1 run of unknown cost" in result.stdout
    assert "Tokens            unknown" in result.stdout
    assert "0.000000" not in result.stdout


def test_a_run_whose_metric_was_told_elsewhere_is_not_counted_as_open_too(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    write_run(log, "coder", 0, answer(5))
    with InvocationMetricsCollector(tmp_path / "made") as collector:
        for event in read_events(log):
            collector.handle_event(event)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert told_of(tmp_path, "run.jsonl", "made")["costs"] == {"USD": "0.125"}


def test_a_suspended_run_is_neither_a_success_nor_a_failure(tmp_path: Path) -> None:
    write_approved_later(tmp_path / "run.jsonl")
    write_run(tmp_path / "run.jsonl", "coder", 30, answer(5))
    told = told_of(tmp_path, "run.jsonl")
    assert (told["suspended"], told["succeeded"], told["failures"]) == (1, 2, {})
    text = agentkit("report", "run.jsonl", cwd=tmp_path).stdout
    assert "Invocations       3, 2 succeeded (100.0%)" in text
    assert "Suspended         1, neither successes nor failures" in text


def test_what_a_failed_request_did_not_tell_makes_the_costs_of_runs_a_lower_bound(tmp_path: Path) -> None:
    write_run(tmp_path / "run.jsonl", "coder", 0, failing("server", 1), answer(9))
    by_agent = agentkit("report", "--by", "agent", "run.jsonl", cwd=tmp_path).stdout
    assert ">= $0.125000" in by_agent
    assert told_of(tmp_path, "run.jsonl")["costs_not_all_told"] == 1
    assert model_row(tmp_path, "run.jsonl")["unknown_costs"] == 1
    text = " ".join(agentkit("report", "run.jsonl", cwd=tmp_path).stdout.split())
    assert "Cost >= $0.125000; a lower bound: 1 request did not tell all that was used" in text


def test_a_cancelled_run_is_no_failure(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    write_run(log, "coder", 0, answer(5))
    reporter = JsonlReporter(log)
    with contextlib.suppress(KeyboardInterrupt), EventEmitter([reporter]).run(agent_name="coder"):
        raise KeyboardInterrupt
    reporter.close()
    text = agentkit("report", "run.jsonl", cwd=tmp_path).stdout
    assert "Invocations       2, 1 succeeded (100.0%)\n" in text
    assert "Failures          0\n" in text
    assert "Cancelled         1, neither successes nor failures\n" in text
    told = told_of(tmp_path, "run.jsonl")
    assert (told["failures"], told["cancelled"], told["aggregate"]["success_rate"]) == ({}, 1, 1.0)
    (row,) = told["tables"][0]["rows"]
    assert (row["runs"], row["failed"], row["cancelled"]) == (2, 0, 1)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return a directory with a log, and with files of all other kinds of records made of the same run."""
    folder = tmp_path / "logs"
    folder.mkdir()
    write_run(folder / "run.jsonl", "coder", 0, calling("here"), answer(5))
    observers: list[Any] = [
        ToolRecorder(folder / "tools.jsonl"),
        UsageStore(folder / "usage.jsonl", prices=None),
        SessionProfiler(folder / "sessions.jsonl", prices=None),
        StepLog(folder / "steps.jsonl"),
        AuditLedger(folder / "decisions.jsonl"),
    ]
    for event in read_events(folder / "run.jsonl"):
        for observer in observers:
            observer.handle_event(event)
    for observer in observers:
        observer.close()
    return folder


def other_files(logs: Path) -> list[str]:
    return sorted(path.name for path in logs.iterdir() if path.name != "run.jsonl" and path.stat().st_size)


@pytest.mark.parametrize("given", ["logs", "logs/*.jsonl"])
def test_files_of_other_records_beside_a_log_are_left_out_in_one_line(logs: Path, given: str) -> None:
    names = other_files(logs)
    assert len(names) >= 4
    said = f"agentkit: left out {len(names)} files of other records: {', '.join(names)}\n"
    result = agentkit("report", given, cwd=logs.parent)
    assert (result.returncode, result.stderr) == (0, said)
    assert result.stdout == agentkit("report", "run.jsonl", cwd=logs).stdout
    told = told_of(logs.parent, given)
    assert (told["bad_lines"], len(told["left_out"])) == (0, len(names))
    checked = agentkit("check", given, cwd=logs.parent)
    assert (checked.returncode, checked.stderr) == (0, said)
    assert checked.stdout == agentkit("check", "run.jsonl", cwd=logs).stdout
    as_json = json.loads(agentkit("check", "--json", given, cwd=logs.parent).stdout)
    assert (as_json["bad_lines"], as_json["faults"], len(as_json["left_out"])) == (0, [], len(names))


@pytest.mark.parametrize("command", ["cost", "replay", "scan", "show"])
def test_every_reader_of_logs_leaves_them_out_in_one_line(command: str, logs: Path) -> None:
    names = other_files(logs)
    said = f"agentkit: left out {len(names)} files of other records: {', '.join(names)}\n"
    result = agentkit(command, "logs", cwd=logs.parent)
    assert said in result.stderr
    assert "skipped" not in result.stderr


def test_a_file_of_other_records_alone_is_refused(logs: Path) -> None:
    for command, expected in (("report", "no run in usage.jsonl; "), ("check", "no event in usage.jsonl; ")):
        result = agentkit(command, "usage.jsonl", cwd=logs)
        assert result.returncode == 1
        assert expected in result.stderr
        assert "left out" not in result.stderr


def test_a_damaged_log_is_none_of_other_records(logs: Path) -> None:
    (logs / "torn.jsonl").write_bytes(b'{"v":1,"seq":1,"payload":{}}\n{"half\n')
    assert agentkit("check", "logs", cwd=logs.parent).returncode == 1
    assert told_of(logs.parent, "logs")["bad_lines"] == 2
    with (logs / "run.jsonl").open("ab") as file:
        file.write(b'{"mine": 1}\n')
    assert told_of(logs.parent, "logs")["bad_lines"] == 3


def test_two_styles_at_once_are_refused(logs: Path) -> None:
    result = agentkit("report", "--json", "--markdown", "run.jsonl", cwd=logs)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--json and --markdown" in result.stderr


@pytest.mark.parametrize(("by", "said"), [("tool", "no call of a tool in"), ("model", "no request in")])
def test_metrics_alone_say_nothing_of_tools_and_requests(tmp_path: Path, by: str, said: str) -> None:
    with InvocationMetricsCollector(tmp_path) as collector:
        collector.record(metric(1))
    for style in ((), ("--markdown",)):
        result = agentkit("report", "--by", by, *style, ".", cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert said in result.stderr
    assert told_of(tmp_path, "--by", by, ".")["tables"] == [{"by": [by], "rows": []}]


def test_ids_are_whole_where_a_program_may_read_them_and_the_session_is_told(logs: Path) -> None:
    (row,) = told_of(logs, "--by", "run", "run.jsonl")["tables"][0]["rows"]
    assert row["session_id"] == "session-0"
    for style in ((), ("--markdown",)):
        told = agentkit("report", "--by", "run", "--by", "agent", *style, "run.jsonl", cwd=logs).stdout
        cells = told.replace("\\", "").split()
        assert {row["key"]["run"], "session-0", "$0.250000"} <= {*cells}
    assert agentkit("show", "--session", row["session_id"], "run.jsonl", cwd=logs).returncode == 0


def test_wide_bars_are_told_in_days_and_the_table_of_tools_has_a_plain_title(tmp_path: Path) -> None:
    with InvocationMetricsCollector(tmp_path) as collector:
        collector.record(metric(1))
        collector.record(metric(2, timestamp="2026-12-24T00:00:00Z"))
    assert "a bar for each 7 days" in agentkit("report", ".", cwd=tmp_path).stdout
    write_run(tmp_path / "run.jsonl", "coder", 0, calling("here"), answer(5))
    assert "\n## Tools\n" in agentkit("report", "--markdown", "run.jsonl", cwd=tmp_path).stdout
